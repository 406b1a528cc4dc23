import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError, systemError } from '../../host/errors.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import { IotlbMapper, type IotlbRegion } from '../../host/vhost-vdpa/iotlb-mapper.js';

const SINGLY =
  (1n << BigInt(vhost.VHOST_BACKEND_F_IOTLB_MSG_V2)) | (1n << BigInt(vhost.VHOST_BACKEND_F_IOTLB_ASID));
const BATCH = SINGLY | (1n << BigInt(vhost.VHOST_BACKEND_F_IOTLB_BATCH));
const NAMES = ['', 'miss', 'update', 'invalidate', 'access fail', 'begin', 'end'];

/** A table as the kernel keeps it for a set_map parent, which refuses regions whose IOVA is in `refused`. */
class Table implements VhostVdpaFile {
  readonly name = 'table';
  readonly pageSize = 4096;
  /** Messages, in the order of their writing. */
  readonly log: string[] = [];
  /** First IOVAs in the kernel's table. */
  readonly entries = new Set<bigint>();
  /** IOVAs that the device sees. */
  device = new Set<bigint>();
  readonly refused = new Set<bigint>();
  #batch = false;

  async write(message: Uint8Array): Promise<void> {
    const { asid, iotlb, type } = vhost.vhostMsgV2.decode(message);
    assert.is(type, vhost.VHOST_IOTLB_MSG_V2);
    assert.is(message.byteLength, 72);
    this.log.push(`${NAMES[iotlb.type]} ${iotlb.iova}${asid ? ` asid ${asid}` : ''}`);
    switch (iotlb.type) {
      case vhost.VHOST_IOTLB_BATCH_BEGIN:
        this.#batch = true;
        break;
      case vhost.VHOST_IOTLB_BATCH_END:
        this.#batch = false;
        // What the device says is discarded: a refused table leaves it with what it had.
        this.#setMap();
        break;
      case vhost.VHOST_IOTLB_UPDATE:
        if (this.entries.has(iotlb.iova)) throw systemError('EEXIST', 'write');
        this.entries.add(iotlb.iova);
        if (!this.#batch && !this.#setMap()) {
          this.entries.delete(iotlb.iova);
          throw systemError('EINVAL', 'write');
        }
        break;
      case vhost.VHOST_IOTLB_INVALIDATE:
        for (const iova of this.entries)
          if (iova >= iotlb.iova && iova < iotlb.iova + iotlb.size) this.entries.delete(iova);
        if (!this.#batch) this.#setMap();
        break;
      default:
        throw new Error(`message ${iotlb.type}`);
    }
  }

  ioctl(): Promise<number> {
    throw new Error('no ioctl is expected');
  }

  mmap(): Promise<void> {
    throw new Error('no mmap is expected');
  }

  async close(): Promise<void> {}

  #setMap(): boolean {
    if ([...this.entries].some((iova) => this.refused.has(iova))) return false;
    this.device = new Set(this.entries);
    return true;
  }
}

function regions(count: number): IotlbRegion[] {
  return Array.from({ length: count }, (_, index) => ({
    iova: BigInt(index + 1) * 4096n,
    bytes: 4096n,
    address: 0x7f00_0000_0000n + BigInt(index) * 4096n,
  }));
}

async function refusal(call: Promise<void>): Promise<string> {
  try {
    await call;
  } catch (error) {
    assert.ok(isSystemError(error), `${error}`);
    return error.code;
  }
  return 'none';
}

test('few regions go one by one', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, BATCH);
  await mapper.map(regions(2));
  assert.equal(table.log, ['update 4096', 'update 8192']);
  assert.is(table.device.size, 2);
});

test('many regions go as a batch, whose last region verifies it', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, BATCH);
  await mapper.map(regions(4));
  assert.equal(table.log, ['begin 0', 'update 4096', 'update 8192', 'update 12288', 'end 0', 'update 16384']);
  assert.is(table.device.size, 4);
  assert.is(mapper.mapped.length, 4);
});

test('without the backend feature nothing is batched', async () => {
  const table = new Table();
  await new IotlbMapper(table, SINGLY).map(regions(4));
  assert.ok(!table.log.includes('begin 0'));
  assert.is(table.device.size, 4);
});

test('a batch that the device refused in silence is found out, and names the culprit', async () => {
  const table = new Table();
  table.refused.add(8192n);
  const mapper = new IotlbMapper(table, BATCH);
  assert.is(await refusal(mapper.map(regions(4))), 'EINVAL');
  assert.is(table.log.at(-2), 'update 8192', 'the unbatched update of the culprit is the last one');
  assert.is(table.entries.size, 0, 'all or none');
  assert.is(mapper.mapped.length, 0);
});

test('a device that only refuses batches is mapped one by one', async () => {
  const table = new Table();
  const write = table.write.bind(table);
  let batches = 0;
  table.write = async (message) => {
    const { iotlb } = vhost.vhostMsgV2.decode(message);
    if (iotlb.type === vhost.VHOST_IOTLB_BATCH_END) {
      batches++;
      throw systemError('EINVAL', 'write');
    }
    if (iotlb.type === vhost.VHOST_IOTLB_BATCH_BEGIN) return;
    await write(message);
  };
  const mapper = new IotlbMapper(table, BATCH);
  await mapper.map(regions(4));
  assert.is(batches, 2, 'a batch must not stay open: its end is tried again');
  assert.is(table.device.size, 4);
});

test('regions of several address spaces are not batched together', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, BATCH);
  await mapper.map(regions(4).map((region, asid) => ({ ...region, asid })));
  assert.equal(table.log, [
    'update 4096',
    'update 8192 asid 1',
    'update 12288 asid 2',
    'update 16384 asid 3',
  ]);
});

test('unmaps what it mapped, neighbours with one message', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, SINGLY);
  await mapper.map(regions(2));
  table.log.length = 0;
  await mapper.unmapAll();
  assert.equal(table.log, ['invalidate 4096']);
  assert.is(table.entries.size, 0);
  await mapper.unmapAll();
  assert.is(table.log.length, 1);
});

test('an address space that cannot be unmapped keeps no other from it', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, SINGLY);
  await mapper.map(regions(2).map((region, asid) => ({ ...region, asid })));
  const write = table.write.bind(table);
  table.write = async (message) => {
    table.write = write;
    assert.is(vhost.vhostMsgV2.decode(message).iotlb.iova, 4096n);
    throw systemError('EFAULT', 'write');
  };
  assert.is(await refusal(mapper.unmapAll()), 'EFAULT');
  assert.equal([...table.entries], [4096n]);
  assert.equal(
    mapper.mapped.map(({ iova }) => iova),
    [4096n],
    'what could not be unmapped is known still',
  );
});

test('unmaps a range of whole mappings, and cuts none', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, SINGLY);
  await mapper.map(regions(4));
  table.log.length = 0;
  await mapper.unmap({ iova: 8192n, bytes: 8192n });
  await mapper.unmap({ iova: 8192n, bytes: 8192n });
  assert.equal(table.log, ['invalidate 8192'], 'nothing is sent where nothing is mapped');
  assert.equal([...table.entries], [4096n, 16384n]);
  try {
    await mapper.unmap({ iova: 4096n, bytes: 2048n });
    assert.unreachable();
  } catch (error) {
    assert.is((error as { code?: string }).code, 'ERR_ARGUMENT');
  }
});

test('without the backend feature messages are of version 1, and there is one address space', async () => {
  const messages: number[] = [];
  const table = new Table();
  table.write = async (message) => {
    messages.push(vhost.vhostMsg.decode(message).type);
    assert.is(message.byteLength, vhost.vhostMsg.size);
    assert.equal(vhost.vhostMsg.decode(message).iotlb.iova, 4096n);
  };
  const mapper = new IotlbMapper(table, 0n);
  await mapper.map(regions(1));
  assert.equal(messages, [vhost.VHOST_IOTLB_MSG]);
  try {
    await mapper.map([{ ...regions(1)[0]!, asid: 1 }]);
    assert.unreachable();
  } catch (error) {
    assert.is((error as { code?: string }).code, 'ERR_NOT_SUPPORTED');
  }
});

test('calls are carried out one after the other', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, BATCH);
  await Promise.all([mapper.map(regions(4)), mapper.unmapAll(), mapper.map(regions(1))]);
  assert.equal([...table.entries], [4096n]);
  assert.is(table.log.at(-1), 'update 4096');
});

test('renews what a reset made the device forget, though the kernel remembers', async () => {
  const table = new Table();
  const mapper = new IotlbMapper(table, SINGLY);
  await mapper.map(regions(2));
  table.device.clear();
  await mapper.renew();
  assert.equal([...table.device], [4096n, 8192n]);
  assert.is(mapper.mapped.length, 2);
});

test.run();
