import type { ExploreOptions } from './explore.js';

/** What is explored, by name: both formats, both ways of suppression, queues of two and of four, one lap and more. */
export const cases: readonly (ExploreOptions & { name: string })[] = [
  { packed: false, inOrder: false },
  { packed: true, inOrder: false },
  { packed: true, inOrder: true },
].flatMap(({ packed, inOrder }) =>
  [false, true].flatMap((eventIdx) =>
    [
      { size: 2, requests: 4 },
      { size: 4, requests: 3 },
    ].map(({ size, requests }) => {
      const format = `${packed ? 'packed' : 'split'}${inOrder ? ' in order' : ''}`;
      const name = `${format}, ${eventIdx ? 'event index' : 'flags'}, ${size} entries, ${requests} requests`;
      return { name, packed, inOrder, eventIdx, size, requests };
    }),
  ),
);
