import { ConsoleDevice } from '../../host/models/console/console-device.js';
import type { ConsolePort } from '../../host/models/console/console-port.js';

/** A console whose one port gives back what it gets, whenever it is served. */
export default class EchoConsole extends ConsoleDevice {
  #piped: ConsolePort | undefined;

  override started(): void {
    const port = this.port();
    if (port !== this.#piped) port.pipe(port);
    this.#piped = port;
    super.started();
  }
}
