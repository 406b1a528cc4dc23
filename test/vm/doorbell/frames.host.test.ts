import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readEvidence } from './evidence.js';
import { textOf } from './nic.js';
import { readPcap } from './pcap.js';

const artefacts = process.env.RINGBELL_VM_ARTEFACTS as string;
const evidence = readEvidence(artefacts);

for (const [nic, file] of [
  ['PAGES', 'pages.pcap'],
  ['SHARED_PAGE', 'shared-page.pcap'],
] as const)
  test(`QEMU has captured every frame of ${nic}, once, in order`, () => {
    const captured = readPcap(readFileSync(join(artefacts, file)));
    const texts = captured.map(textOf).filter((text) => text !== undefined);
    assert.ok(texts.length > 0);
    assert.equal(texts, evidence.sent[nic]);
  });

test('a device that was refused has sent nothing', () => {
  assert.equal(readPcap(readFileSync(join(artefacts, 'past-iommu.pcap'))), []);
});

test('QEMU has seen as many notifications as the drivers have counted, queue by queue', () => {
  const seen = new Map<string, number[]>();
  for (const [, device, queue] of readFileSync(join(artefacts, 'qemu.trace'), 'utf8').matchAll(
    /virtio_queue_notify vdev (\w+) n (\d+) /g,
  )) {
    const kicks = seen.get(device!) ?? [0, 0];
    seen.set(device!, kicks);
    kicks[Number(queue)] = (kicks[Number(queue)] ?? 0) + 1;
  }
  // QEMU names its devices by addresses: they are told apart by their counts.
  for (const nic of ['PAGES', 'SHARED_PAGE'] as const)
    assert.ok(
      [...seen.values()].some((kicks) => kicks.join() === evidence.kicks[nic].join()),
      `${nic}: ${evidence.kicks[nic]}, QEMU: ${[...seen.values()].join(' | ')}`,
    );
});

test.run();
