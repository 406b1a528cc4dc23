/** Placeholder until the loader lands. */
export function locateAddon(): string {
  return new URL('../../../native/build/Release/ringbell.node', import.meta.url).pathname;
}
