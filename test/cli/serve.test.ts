import { EventEmitter } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { endOf } from '../../host/cli/serve.js';
import { RingbellError, type ServedDeviceEvents } from '../../host/index.js';

test('an error of the device does not end the command, its closing does', async () => {
  const device = new EventEmitter<ServedDeviceEvents>();
  const errors: RingbellError[] = [];
  device.on('error', (error) => errors.push(error));
  let ended = false;
  const end = endOf(device, new AbortController().signal).then(() => {
    ended = true;
  });
  device.emit('error', new RingbellError('ERR_IO', 'a sector cannot be read'));
  await new Promise(setImmediate);
  assert.is(ended, false);
  assert.is(errors.length, 1);
  device.emit('close');
  await end;
});

test('so does a signal', async () => {
  const controller = new AbortController();
  const end = endOf(new EventEmitter<ServedDeviceEvents>(), controller.signal);
  controller.abort();
  await end;
});

test.run();
