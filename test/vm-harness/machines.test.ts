import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NIC } from '../vm/doorbell/nic.js';
import { MACHINES } from '../vm/machines.js';

test('every folder with guest tests is that of a machine, and every machine has tests', () => {
  const folder = fileURLToPath(new URL('../../../test/vm/', import.meta.url));
  const folders = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  assert.equal(folders.map(({ name }) => name).sort(), MACHINES.map(({ name }) => name).sort());
  for (const { name } of folders)
    assert.ok(
      readdirSync(folder + name).some((file) => file.endsWith('.test.ts') && !file.endsWith('.host.test.ts')),
    );
});

test('the network devices are where their tests look for them', () => {
  const { qemuArguments } = MACHINES.find(({ name }) => name === 'doorbell')!;
  const slots = qemuArguments('artefacts').flatMap((word) => /,addr=0x([\da-f]+),/.exec(word)?.[1] ?? []);
  assert.equal(
    slots.map((slot) => `0000:00:${slot}.0`),
    Object.values(NIC),
  );
});

test.run();
