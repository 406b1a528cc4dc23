/** The control plane of vp_vdpa: pinned memory behind a platform IOMMU, and queues that do not tell where they are. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../../host/aperture/aperture.js';
import { isSystemError, type RingbellError } from '../../../host/errors.js';
import { loadAddon } from '../../../host/native/addon.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, VIRTIO_ID_NET } from '../../../host/uapi/virtio.js';
import { VhostVdpa } from '../../../host/vhost-vdpa/device.js';
import { openVhostVdpaFile } from '../../../host/vhost-vdpa/open.js';
import { hasModule, shell, skip } from '../fixture.js';
import { bindNic, NIC, unbindNic } from './nic.js';

const PAGE = 4096;
const PAGES = 32;
const IOVA = 2 ** 20;
/** Bytes; less than the memory that the tests show the device. */
const SMALL_MEMLOCK = 16 * PAGE;
const FEATURES = (1n << BigInt(VIRTIO_F_VERSION_1)) | (1n << BigInt(VIRTIO_F_ACCESS_PLATFORM));

/** What the kernel says to a call; undefined if it accepts. */
async function refusal(call: Promise<unknown>): Promise<RingbellError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    return error as RingbellError;
  }
}

const codeOf = (error: RingbellError | undefined) =>
  isSystemError(error?.cause) ? error.cause.code : error?.code;

if (!hasModule('vp_vdpa')) {
  skip('vp_vdpa', 'this kernel comes without it, and nobody built it');
} else {
  const path = await bindNic(NIC.PAGES);
  const device = await VhostVdpa.open(await openVhostVdpaFile(path));
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const fd = loadAddon().memfd('vp-vdpa', PAGES * PAGE, true);
  const window = aperture.map({ fd, offset: 0n }, PAGES * PAGE, 'rw');
  const region = (page: number, pages: number, from = page) => ({
    iova: BigInt(IOVA + page * PAGE),
    bytes: BigInt(pages * PAGE),
    address: aperture.address + BigInt(window.linear + from * PAGE),
  });

  test('what the device is', async () => {
    assert.is(device.deviceId, VIRTIO_ID_NET);
    assert.is(device.queueCount, 3);
    assert.is(device.iovaRange.first, 0n);
    assert.ok(device.iovaRange.last < 2n ** 64n - 1n, 'as far as the IOMMU reaches');
    assert.equal(await device.groups(), { groups: 1, addressSpaces: 1 });
    assert.is(await device.maxQueueSize(0), 256);
    // Mappings are the platform's: a reset of the device does not touch them.
    assert.ok(device.hasBackendFeature(vhost.VHOST_BACKEND_F_IOTLB_PERSIST));
    assert.is(device.hasBackendFeature(vhost.VHOST_BACKEND_F_SUSPEND), false);
    await device.reset();
    await device.acknowledge();
    await device.negotiate(FEATURES, 0n);
  });

  test('too small a limit on locked memory is named', async () => {
    const limit = (bytes: string) => shell(`prlimit --pid ${process.pid} --memlock=${bytes}`);
    limit(`${SMALL_MEMLOCK}:unlimited`);
    const refused = await refusal(device.map([region(0, PAGES)]));
    limit('unlimited:unlimited');
    assert.is(codeOf(refused), 'EFAULT');
    assert.match(refused!.message, /RLIMIT_MEMLOCK/);
    assert.is(device.iotlb.mapped.length, 0);
    await device.map([region(0, PAGES)]);
  });

  test('a range is mapped once, and one outside of the IOMMU’s reach never', async () => {
    assert.is(codeOf(await refusal(device.map([region(1, 1)]))), 'EFAULT');
    const outside = { ...region(0, 1), iova: device.iovaRange.last + 1n };
    assert.is(codeOf(await refusal(device.map([outside]))), 'EFAULT');
    assert.is(device.iotlb.mapped.length, 1);
  });

  test('a memory table is what is mapped, page by page', async () => {
    // A page that is mapped cannot be mapped again.
    const isMapped = async (page: number) => {
      const refused = await refusal(device.map([region(page, 1)]));
      if (!refused) await device.unmap(region(page, 1));
      return refused !== undefined;
    };
    const whole = [region(0, PAGES)];
    for (const [table, updates, invalidations] of [
      [[region(0, 16), region(16, 16)], 0, 0],
      [[region(0, 8), region(8, 2, 20), region(20, 4)], 3, 1],
      [[region(0, 8), region(8, 2, 24), region(20, 2), region(22, 2), region(28, 2)], 2, 1],
      [[region(20, 4)], 0, 2],
      [whole, 2, 0],
      [[], 0, 1],
      [whole, 1, 0],
    ] as const) {
      const change = await device.setMemTable(table);
      assert.equal([change.updates, change.invalidations], [updates, invalidations]);
      for (let page = 0; page < PAGES; page++) {
        const { iova } = region(page, 1);
        const expected = table.some((each) => each.iova <= iova && iova < each.iova + each.bytes);
        assert.is(await isMapped(page), expected, `page ${page}`);
      }
    }
  });

  test('mappings persist through a reset', async () => {
    await device.reset();
    assert.is(codeOf(await refusal(device.map([region(0, 1)]))), 'EFAULT');
    await device.acknowledge();
    await device.negotiate(FEATURES, 0n);
  });

  test('a queue begins at 0, and does not tell where it is', async () => {
    const eventfd = loadAddon().eventfd();
    const vring = (base: number) =>
      device.setVring({
        index: 0,
        num: 64,
        desc: region(0, 1).iova,
        avail: region(1, 1).iova,
        used: region(2, 1).iova,
        base,
        kickFd: eventfd,
        callFd: eventfd,
      });
    await vring(0);
    assert.is(codeOf(await refusal(vring(5))), 'EOPNOTSUPP');
    assert.is(codeOf(await refusal(device.vringBase(0))), 'EOPNOTSUPP');
    loadAddon().close(eventfd);
  });

  test.after(async () => {
    await device.close();
    unbindNic(NIC.PAGES);
  });
}

test.run();
