import { Bus } from '../../../host/bus/index.js';
import type { RingbellError } from '../../../host/errors.js';
import type { NetModel } from '../../../host/models/net/net-model.js';
import { type ServeOptions, serve } from '../../../host/serve.js';
import type { ServedDevice } from '../../../host/served/served-device.js';
import { within } from '../fixture.js';
import { RawNetDriver } from './raw-net-driver.js';

/** A network device on a bus of its own. */
export interface NetStage<M> {
  bus: Bus;
  model: M;
  device: ServedDevice;
  /** Errors that the device has emitted. */
  errors: RingbellError[];
}

/** Serves a model, or a module's, as `net0`, and takes it down after `body`. */
export async function served<M extends NetModel | URL>(
  model: M,
  options: Partial<ServeOptions>,
  body: (stage: NetStage<M>) => Promise<void>,
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(model, { name: 'net0', bus, queues: 2, ...options }), 'serve');
  const errors: RingbellError[] = [];
  device.on('error', (error) => errors.push(error));
  try {
    await body({ bus, model, device, errors });
  } finally {
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

/** The same, with a driver that has negotiated `features`. */
export async function driven<M extends NetModel | URL>(
  model: M,
  { features = [], ...options }: Partial<ServeOptions> & { features?: readonly number[] },
  body: (stage: NetStage<M> & { driver: RawNetDriver }) => Promise<void>,
): Promise<void> {
  await served(model, options, async (stage) => {
    const driver = await RawNetDriver.open(stage.bus, features, options.queues ?? 2);
    try {
      await within(body({ ...stage, driver }), 'the scene');
    } finally {
      await driver.close();
    }
  });
}
