import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backendFeatureNames,
  featureNames,
  ioctlName,
  messageName,
  statusNames,
  vduseFeatureNames,
} from '../../host/uapi/names.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET } from '../../host/uapi/virtio.js';

test('an ioctl has its kernel name', () => {
  assert.is(ioctlName(vhost.VHOST_SET_OWNER), 'VHOST_SET_OWNER');
  assert.is(ioctlName(vhost.VHOST_GET_VRING_BASE), 'VHOST_GET_VRING_BASE');
  assert.is(ioctlName(vduse.VDUSE_IOTLB_GET_FD2), 'VDUSE_IOTLB_GET_FD2');
  assert.is(ioctlName(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ), 'VDUSE_DEV_INJECT_CONFIG_IRQ');
});

test('a number that is no ioctl, or an unknown one, is shown in hexadecimal', () => {
  assert.is(ioctlName(0x0000af99), 'ioctl 0x0000AF99');
  assert.is(ioctlName(0xc008af99), 'ioctl 0xC008AF99');
  assert.is(ioctlName(vhost.VHOST_VIRTIO), 'ioctl 0x000000AF');
});

test('no two ioctls share a number', () => {
  const named = [vhost, vduse]
    .flatMap((module) => Object.entries(module))
    .filter(([name, value]) => typeof value === 'number' && ioctlName(value) === name);
  assert.is(named.length, 39 + 18);
});

test('a message has its kernel name', () => {
  assert.is(messageName(vduse.VDUSE_SET_STATUS), 'VDUSE_SET_STATUS');
  assert.is(messageName(9), 'message 9');
});

test('the same bit has another name on another type of device', () => {
  assert.equal(featureNames(VIRTIO_ID_BLOCK, 1n << 5n), ['VIRTIO_BLK_F_RO']);
  assert.equal(featureNames(VIRTIO_ID_NET, 1n << 5n), ['VIRTIO_NET_F_MAC']);
  assert.equal(featureNames(77, 1n << 5n), ['bit 5']);
});

test('features are named in ascending order, up to bit 63', () => {
  assert.equal(featureNames(VIRTIO_ID_BLOCK, (1n << 63n) | (1n << 32n) | (1n << 29n) | (1n << 9n)), [
    'VIRTIO_BLK_F_FLUSH',
    'VIRTIO_RING_F_EVENT_IDX',
    'VIRTIO_F_VERSION_1',
    'bit 63',
  ]);
  assert.equal(featureNames(VIRTIO_ID_BLOCK, 0n), []);
});

test('features of VDUSE have their kernel names', () => {
  assert.equal(vduseFeatureNames(0b111n), ['VDUSE_F_QUEUE_READY', 'VDUSE_F_SUSPEND', 'bit 2']);
});

test('backend features have their kernel names', () => {
  assert.equal(backendFeatureNames(0b110n), ['VHOST_BACKEND_F_IOTLB_MSG_V2', 'VHOST_BACKEND_F_IOTLB_BATCH']);
});

test('status bits have the names of the specification', () => {
  assert.equal(statusNames(0), []);
  assert.equal(statusNames(0x0f), ['ACKNOWLEDGE', 'DRIVER', 'DRIVER_OK', 'FEATURES_OK']);
  assert.equal(statusNames(0xe0), ['bit 5', 'NEEDS_RESET', 'FAILED']);
});

test.run();
