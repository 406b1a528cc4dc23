import assert from 'node:assert/strict';
import test from 'node:test';
import { BlockModel, openBlock, serve } from 'ringbell';
import { faulty } from 'ringbell/testing';
import { readPatiently } from './patient-reader.js';

const BLOCK = 4096;

/** A disk whose every block is full of its own number. */
class Numbered extends BlockModel {
  capacity = 64 * BLOCK;

  read(offset, into) {
    for (let at = 0; at < into.length; at++) into[at] = (offset + at) / BLOCK;
  }
}

/** A disk with faults, and a driver that has it open. */
async function scene(rates, act) {
  const model = faulty(new Numbered(), rates);
  const device = await serve(model, { name: 'faulty0' });
  const disk = await openBlock('faulty0');
  try {
    await act(disk, model.faults);
  } finally {
    model.faults.release();
    await disk.close();
    await device.close();
  }
}

test('a read that fails is tried again', () =>
  scene({}, async (disk, faults) => {
    faults.next('error', 'error');
    assert.equal((await readPatiently(disk, 7 * BLOCK, BLOCK))[0], 7);
    assert.equal(faults.injected.error, 2);
  }));

test('a read that fails again and again is given up', () =>
  scene({ error: 1 }, async (disk, faults) => {
    await assert.rejects(readPatiently(disk, 0, BLOCK), { code: 'ERR_IO' });
    assert.equal(faults.injected.error, 3);
  }));

test('a read that is never answered is tried again', () =>
  scene({}, async (disk, faults) => {
    faults.next('drop');
    const impatience = { attempts: 100, timeoutMs: 100 };
    assert.equal((await readPatiently(disk, 9 * BLOCK, BLOCK, impatience))[0], 9);
    assert.equal(faults.held, 1);
  }));

test('whatever the disk does, every block that is read is right', () =>
  scene({ seed: 7, delay: 0.2, error: 0.2, reorder: 0.2, wrongLength: 0.1 }, async (disk, faults) => {
    const numbers = Array.from({ length: 64 }, (_, number) => number);
    const patience = { attempts: 20 };
    const blocks = await Promise.all(
      numbers.map((number) => readPatiently(disk, number * BLOCK, BLOCK, patience)),
    );
    for (const number of numbers) assert.ok(blocks[number].every((byte) => byte === number));
    console.log(faults.injected);
  }));
