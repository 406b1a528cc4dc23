import { PAGE_SIZE } from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { loadAddon } from '../../host/native/addon.js';

/** A log for the IOVAs of our driver, and the pages that are marked in it. */
export function driverLog() {
  const bytes = 2 ** 33 / PAGE_SIZE / 8;
  const fd = loadAddon().memfd('log', bytes, true);
  const aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 16 });
  const view = aperture.viewOwn(aperture.map({ fd, offset: 0n }, bytes, 'rw'));
  const words = new Int32Array(view.buffer, view.byteOffset, bytes / 4);
  return {
    memory: { fd, offset: 0n, bytes },
    /** Fetches and clears, as a driver does. */
    fetch(): number[] {
      const pages: number[] = [];
      for (let word = 0; word < words.length; word++) {
        if (Atomics.load(words, word) === 0) continue;
        const bits = Atomics.exchange(words, word, 0);
        for (let bit = 0; bit < 32; bit++) if ((bits >>> bit) & 1) pages.push(word * 32 + bit);
      }
      return pages;
    },
    close: () => loadAddon().close(fd),
  };
}
