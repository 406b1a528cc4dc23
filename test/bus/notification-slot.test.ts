import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EventfdContext } from '../../host/bus/eventfd-context.js';
import { NotificationSlot } from '../../host/bus/notification-slot.js';
import { loadAddon } from '../../host/native/addon.js';
import { within } from './fixture.js';

const addon = loadAddon();

test('the number stays while the eventfd behind it changes', () => {
  const slot = new NotificationSlot('kick');
  const eventfds = [addon.eventfd(), addon.eventfd()];
  const contexts = eventfds.map((fd) => EventfdContext.get(fd));
  const { fd } = slot;
  for (const [index, context] of contexts.entries()) {
    slot.point(context);
    assert.is(slot.fd, fd);
    addon.eventfdSignal(eventfds[index]!);
    assert.is(addon.eventfdDrain(fd), 1);
    addon.eventfdSignal(fd);
    assert.is(addon.eventfdDrain(eventfds[index]!), 1);
  }
  slot.point(undefined);
  addon.eventfdDrain(fd);
  addon.eventfdSignal(fd);
  assert.is(addon.eventfdDrain(fd), 1);
  assert.is(addon.eventfdDrain(eventfds[1]!), 1, 'the one that was let go is signalled once');
  slot.close();
  for (const context of contexts) context.put();
  for (const eventfd of eventfds) closeSync(eventfd);
});

test('pointing at the same eventfd again signals nobody', () => {
  const slot = new NotificationSlot('kick');
  const eventfd = addon.eventfd();
  const context = EventfdContext.get(eventfd);
  slot.point(context);
  addon.eventfdDrain(slot.fd);
  slot.point(context);
  assert.is(addon.eventfdDrain(slot.fd), 0);
  slot.close();
  context.put();
  closeSync(eventfd);
});

test('it goes on when the descriptor that it was pointed at is closed', () => {
  const slot = new NotificationSlot('kick');
  const eventfd = addon.eventfd();
  const other = addon.duplicate(eventfd);
  const context = EventfdContext.get(eventfd);
  closeSync(eventfd);
  slot.point(context);
  addon.eventfdSignal(other);
  assert.is(addon.eventfdDrain(slot.fd), 1);
  slot.close();
  context.put();
  closeSync(other);
});

test('a kick that nobody has taken yet moves with the number', () => {
  const slot = new NotificationSlot('kick');
  const eventfds = [addon.eventfd(), addon.eventfd()];
  const contexts = eventfds.map((fd) => EventfdContext.get(fd));
  slot.point(contexts[0]);
  addon.eventfdSignal(eventfds[0]!);
  slot.point(undefined);
  slot.point(contexts[1]);
  assert.ok(addon.eventfdDrain(slot.fd) > 0);
  slot.close();
  for (const context of contexts) context.put();
  for (const eventfd of eventfds) closeSync(eventfd);
});

test('a driver that binds another call eventfd is not interrupted by it', () => {
  const slot = new NotificationSlot('call');
  const eventfds = [addon.eventfd(), addon.eventfd()];
  const contexts = eventfds.map((fd) => EventfdContext.get(fd));
  slot.point(contexts[0]);
  slot.point(contexts[1]);
  slot.point(undefined);
  assert.equal(
    eventfds.map((fd) => addon.eventfdDrain(fd)),
    [0, 0],
  );
  slot.close();
  for (const context of contexts) context.put();
  for (const eventfd of eventfds) closeSync(eventfd);
});

test('a thread blocked on the number notices that another eventfd is behind it', async () => {
  const slot = new NotificationSlot('kick');
  const eventfd = addon.eventfd();
  const context = EventfdContext.get(eventfd);
  // Polls the number until 10 kicks have come, however often it is woken for nothing.
  const worker = new Worker(
    `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.addon).then(({ loadAddon }) => {
      const addon = loadAddon();
      const ready = new Uint32Array(1);
      parentPort.postMessage('started');
      for (let kicks = 0; kicks < 10; ) {
        if (!addon.poll(Int32Array.of(workerData.fd), ready, 5000)) throw new Error('never woken');
        kicks += addon.eventfdDrain(workerData.fd);
      }
    });
    `,
    {
      eval: true,
      workerData: { fd: slot.fd, addon: new URL('../../host/native/addon.js', import.meta.url).href },
    },
  );
  const exit = new Promise<void>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', () => resolve());
  });
  await within(new Promise((resolve) => worker.once('message', resolve)), 'the thread to start');
  // Long enough for the thread to be inside poll(2) on the idle eventfd.
  await new Promise((resolve) => setTimeout(resolve, 50));
  slot.point(context);
  const kicks = setInterval(() => addon.eventfdSignal(eventfd), 1);
  try {
    await within(exit, 'the thread to see the kicks');
  } finally {
    clearInterval(kicks);
    await worker.terminate();
  }
  slot.close();
  context.put();
  closeSync(eventfd);
});

test.run();
