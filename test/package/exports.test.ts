import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { exportedTypes, referredNames, TESTING } from '../docs/declarations.js';

test('every type that an exported declaration refers to is exported', () => {
  const types = exportedTypes();
  assert.ok(types.size > 50, 'the declarations were found');
  const missing = [...types].flatMap(([name, file]) =>
    referredNames(name, file)
      .filter((other) => !types.has(other))
      .map((other) => `${name} refers to ${other}`),
  );
  assert.equal(missing, []);
});

test('every type that ringbell/testing refers to is exported there, or by the package', () => {
  const types = exportedTypes(TESTING);
  const known = new Set([...types.keys(), ...exportedTypes().keys()]);
  const missing = [...types].flatMap(([name, file]) =>
    referredNames(name, file)
      .filter((other) => !known.has(other))
      .map((other) => `${name} refers to ${other}`),
  );
  assert.equal(missing, []);
});

test('what only the package itself calls is not declared', () => {
  const types = exportedTypes();
  for (const [name, member] of [
    ['ServedDevice', 'DeviceTransport'],
    ['BlockDisk', 'VirtioDriver'],
    ['BlockBatch', 'BlockQueue'],
  ] as const)
    assert.not.ok(referredNames(name, types.get(name)!).includes(member), `${name}: ${member}`);
});

test.run();
