/** What is under test: reads from a disk that may fail, or not answer, `attempts` times before it gives up. */
export async function readPatiently(disk, offset, length, { attempts = 3, timeoutMs = 30_000 } = {}) {
  let failure;
  for (let attempt = 0; attempt < attempts; attempt++) {
    try {
      return await disk.read(offset, length, { signal: AbortSignal.timeout(timeoutMs) });
    } catch (error) {
      if (error.code !== 'ERR_IO' && error.name !== 'AbortError') throw error;
      failure = error;
    }
  }
  throw failure;
}
