/**
 * The main module of a device's message thread: it answers the transport whatever the rest of the process does. The main
 * thread starts it, and tells it of lost threads, new config spaces and the end.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Aperture, type ApertureHandle } from '../aperture/aperture.js';
import type { ErrorCode } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import { threadId } from '../queue/thread-id.js';
import { VduseDevice } from './device.js';
import type { BounceBuffer, VduseDeviceLayout } from './device-layout.js';
import type { DirtyOperation, DirtyRange } from './dirty-pages.js';
import { failureOf } from './failure.js';
import { receiveVduseFile, type VduseFileHandle } from './file-handle.js';

/** What a message thread is started with. */
export interface MessageThreadData {
  file: VduseFileHandle;
  /** With room for windows of the driver's memory. */
  aperture: ApertureHandle;
  layout: VduseDeviceLayout;
  /** Eventfd on which queues ask for attention. */
  attentionFd: number;
}

/** What the main thread says. */
export type MessageThreadCommand =
  | { type: 'threadLost'; index: number }
  /** Asks for a pause, which `paused` answers. */
  | { type: 'reconfigure' }
  /** Ends it: the config space as it is now, undefined if nothing was changed. `configured` answers. */
  | { type: 'config'; config: Uint8Array | undefined }
  /** `dirtyPages` answers, in the order in which it was asked. */
  | { type: 'dirtyPages'; operation: DirtyOperation }
  | { type: 'close' };

/** What the message thread says. */
export type MessageThreadEvent =
  /** The device can be attached. */
  /** `thread`: its number in the kernel, 0 where that is not known. */
  | { type: 'started'; thread: number }
  | { type: 'status'; status: number }
  | { type: 'bounceBuffer'; bounceBuffer: BounceBuffer; reason: string | undefined }
  | { type: 'error'; code: ErrorCode; message: string }
  | { type: 'paused' }
  /** The end of a change: `error` if it failed, or never came to pass. */
  | { type: 'configured'; error?: { code: ErrorCode; message: string } }
  | { type: 'dirtyPages'; ranges: DirtyRange[]; error?: { code: ErrorCode; message: string } }
  /** The file is closed, the queues are stopped; the thread ends. */
  | { type: 'closed' };

const data = workerData as MessageThreadData;
const port = parentPort!;
const tell = (event: MessageThreadEvent) => port.postMessage(event);
const reportFailure = (error: unknown) => tell({ type: 'error', ...failureOf(error) });

const aperture = Aperture.adopt(data.aperture);
const device = new VduseDevice(receiveVduseFile(data.file), aperture, data.layout, {
  status: (status) => tell({ type: 'status', status }),
  bounceBuffer: (bounceBuffer, reason) => tell({ type: 'bounceBuffer', bounceBuffer, reason }),
  error: (code, message) => tell({ type: 'error', code, message }),
});

const attention = loadAddon().watch(data.attentionFd, () => {
  loadAddon().eventfdDrain(data.attentionFd);
  device.attend().catch(reportFailure);
});

let configured: ((config: Uint8Array | undefined) => void) | undefined;

/** Asks the main thread to change what it has to change, now that nothing runs. */
function awaitConfig(): Promise<Uint8Array | undefined> {
  tell({ type: 'paused' });
  return new Promise((resolve) => {
    configured = resolve;
  });
}

async function close(): Promise<void> {
  attention.close();
  await device.close();
  aperture.close();
  tell({ type: 'closed' });
  port.close();
}

port.on('message', (command: MessageThreadCommand) => {
  switch (command.type) {
    case 'threadLost':
      device.threadLost(command.index).catch(reportFailure);
      break;
    case 'reconfigure':
      device.reconfigure(awaitConfig).then(
        () => tell({ type: 'configured' }),
        (error) => tell({ type: 'configured', error: failureOf(error) }),
      );
      break;
    case 'config':
      configured?.(command.config);
      break;
    case 'dirtyPages':
      device.dirtyPages(command.operation).then(
        (ranges) => tell({ type: 'dirtyPages', ranges }),
        (error) => tell({ type: 'dirtyPages', ranges: [], error: failureOf(error) }),
      );
      break;
    case 'close':
      close().catch(reportFailure);
      break;
  }
});

await device.start();
tell({ type: 'started', thread: threadId() });
await device.run().catch(reportFailure);
