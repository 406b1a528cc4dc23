import { closeSync, openSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../../host/native/addon.js';
import { s32, u32 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import {
  fails,
  mask,
  NAME,
  Responder,
  STATUS_DRIVER_OK,
  setStatus,
  until,
  vringFile,
  vringState,
} from '../protocol.js';
import { onScene, type Rule, type Scene, type SceneOptions } from '../rule.js';
import { lacksVduseFeature } from './lacks.js';

/** A scene with the eventfds of queue 0 and of the config space, and what happens to them. */
class Bells {
  readonly #addon = loadAddon();
  readonly #scene: Scene;
  readonly kick: number;
  readonly call: number;
  readonly config: number;
  /** The device's own, for VDUSE_VQ_SETUP_KICKFD. */
  readonly own: number;

  constructor(scene: Scene) {
    this.#scene = scene;
    this.kick = scene.world.eventfd();
    this.call = scene.world.eventfd();
    this.config = scene.world.eventfd();
    this.own = scene.world.eventfd();
  }

  bindKick(fd = this.kick): Promise<number> {
    return this.#scene.driver.ioctl(vhost.VHOST_SET_VRING_KICK, vringFile(0, fd));
  }

  bindCall(fd = this.call): Promise<number> {
    return this.#scene.driver.ioctl(vhost.VHOST_SET_VRING_CALL, vringFile(0, fd));
  }

  bindConfig(fd = this.config): Promise<number> {
    return this.#scene.driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(fd));
  }

  enable(ready = 1): Promise<number> {
    return this.#scene.driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, ready));
  }

  setupKickfd(fd = this.own): Promise<number> {
    return this.#scene.device.ioctl(
      vduse.VDUSE_VQ_SETUP_KICKFD,
      vduse.vduseVqEventfd.encode({ index: 0, fd }),
    );
  }

  inject(): Promise<number> {
    return this.#scene.device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(0));
  }

  injectConfig(): Promise<number> {
    return this.#scene.device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
  }

  /** The driver kicks. */
  ring(): void {
    this.#addon.eventfdSignal(this.kick);
  }

  /** The device sees a kick, sooner or later. */
  async kicked(): Promise<void> {
    const fd = await this.#scene.device.kickFd(0, this.own);
    await until(() => this.#addon.eventfdDrain(fd) > 0, 'a kick');
  }

  /** Kicks so far are behind both. */
  async quiet(): Promise<void> {
    const fd = await this.#scene.device.kickFd(0, this.own);
    await this.#scene.world.settle();
    for (const each of [fd, this.kick, this.own]) this.#addon.eventfdDrain(each);
  }

  /** The device sees no kick. */
  async unkicked(): Promise<void> {
    const fd = await this.#scene.device.kickFd(0, this.own);
    await this.#scene.world.settle();
    assert.is(this.#addon.eventfdDrain(fd), 0);
  }

  /** An eventfd of the driver's is signalled, sooner or later. */
  async signalled(fd: number): Promise<void> {
    await until(() => this.#addon.eventfdDrain(fd) > 0, 'an interrupt');
  }

  /** An eventfd of the driver's is not signalled. */
  async silent(fd: number): Promise<void> {
    await this.#scene.world.settle();
    assert.is(this.#addon.eventfdDrain(fd), 0);
  }
}

/** A rule's `play` on a scene with its eventfds. */
function onBells(act: (scene: Scene, bells: Bells) => Promise<void>, options: SceneOptions = {}) {
  return onScene((scene) => act(scene, new Bells(scene)), options);
}

/** Kicks, interrupts and config interrupts. */
export const notificationRules: readonly Rule[] = [
  {
    name: 'a kick on a ready queue reaches the kickfd',
    source: 'vduse_vq_kick',
    play: onBells(async (_scene, bells) => {
      await bells.bindKick();
      await bells.setupKickfd();
      await bells.enable();
      await bells.quiet();
      for (let round = 0; round < 3; round++) {
        bells.ring();
        await bells.kicked();
      }
    }),
  },
  {
    name: 'a kick on a queue that is not ready is dropped',
    source: 'vduse_vq_kick',
    play: onBells(async (_scene, bells) => {
      await bells.bindKick();
      await bells.setupKickfd();
      await bells.quiet();
      bells.ring();
      await bells.unkicked();
      await bells.enable();
      await bells.quiet();
      bells.ring();
      await bells.kicked();
      await bells.enable(0);
      await bells.quiet();
      bells.ring();
      await bells.unkicked();
    }),
  },
  {
    name: 'a kick on a ready queue from before the kickfd is found when it is set up',
    source: 'vduse_kickfd_setup',
    play: onBells(async (_scene, bells) => {
      await bells.bindKick();
      await bells.enable();
      await bells.quiet();
      bells.ring();
      await bells.unkicked();
      await bells.setupKickfd();
      await bells.kicked();
    }),
  },
  {
    name: 'an eventfd that is signalled already kicks as soon as it is bound',
    source: 'vhost_poll_start',
    play: onBells(async (_scene, bells) => {
      await bells.setupKickfd();
      await bells.enable();
      bells.ring();
      await bells.bindKick();
      await bells.kicked();
    }),
  },
  {
    name: 'an eventfd that the driver unbinds or exchanges kicks no more',
    source: 'vhost_vring_ioctl, VHOST_SET_VRING_KICK',
    play: onBells(async (_scene, bells) => {
      await bells.bindKick();
      await bells.setupKickfd();
      await bells.enable();
      await bells.bindKick(-1);
      await bells.quiet();
      bells.ring();
      await bells.unkicked();
      await bells.bindKick(bells.config);
      await bells.quiet();
      bells.ring();
      await bells.unkicked();
      loadAddon().eventfdSignal(bells.config);
      await bells.kicked();
    }),
  },
  {
    name: 'a kickfd is an eventfd; −1 takes it away, another negative number changes nothing',
    source: 'vduse_kickfd_setup',
    play: onBells(async (_scene, bells) => {
      const file = openSync('/dev/null', 'r');
      await bells.bindKick();
      await bells.enable();
      await fails(bells.setupKickfd(file), 'EINVAL', 'ioctl');
      await fails(bells.setupKickfd(9999), 'EBADF');
      await bells.setupKickfd();
      await bells.setupKickfd(-2);
      await bells.quiet();
      bells.ring();
      await bells.kicked();
      await bells.setupKickfd(-1);
      await bells.quiet();
      bells.ring();
      await bells.unkicked();
      closeSync(file);
    }),
  },
  {
    name: 'a reset takes the kickfd away, and leaves the driver’s kick eventfd bound',
    source: 'vduse_dev_reset',
    play: onBells(async ({ driver }, bells) => {
      await bells.bindKick();
      await bells.setupKickfd();
      await bells.enable();
      await setStatus(driver, 0);
      await bells.enable();
      await bells.quiet();
      bells.ring();
      await bells.unkicked();
      await bells.setupKickfd();
      await bells.kicked();
    }),
  },
  {
    name: 'a kickfd outlives the server that set it up',
    source: 'vduse_dev_release',
    differs: [
      {
        at: 'bus',
        why: 'a device that takes over gets its kicks through kickFd of its own file, where the one before it had none',
      },
    ],
    play: onBells(async ({ at, control, device }, bells) => {
      await bells.bindKick();
      await bells.setupKickfd();
      await bells.enable();
      await bells.quiet();
      await device.close();
      const again = await control.open(NAME);
      void new Responder(again);
      bells.ring();
      const fd = at('bus') ? await again.kickFd(0, bells.own) : bells.own;
      await until(() => loadAddon().eventfdDrain(fd) > 0, 'a kick');
    }),
  },
  {
    name: 'an interrupt before DRIVER_OK is EINVAL, unless the queue is ready and has a call eventfd',
    source: 'vduse_vq_signal_irqfd, vduse_dev_queue_irq_work',
    play: onBells(async ({ device, driver }, bells) => {
      await fails(bells.inject(), 'EINVAL', 'ioctl');
      await bells.bindCall();
      await fails(bells.inject(), 'EINVAL');
      await bells.enable();
      await bells.inject();
      await bells.signalled(bells.call);
      await fails(device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(1)), 'EINVAL');
      await setStatus(driver, STATUS_DRIVER_OK);
      await device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(1));
      await bells.silent(bells.call);
    }),
  },
  {
    name: 'an interrupt for a queue that is not ready, or has no call eventfd, vanishes after DRIVER_OK',
    source: 'vduse_vq_irq_inject',
    play: onBells(async ({ driver }, bells) => {
      await setStatus(driver, STATUS_DRIVER_OK);
      await bells.bindCall();
      await bells.inject();
      await bells.silent(bells.call);
      await bells.enable();
      await bells.bindCall(-1);
      await bells.inject();
      await bells.silent(bells.call);
      await bells.bindCall();
      await bells.inject();
      await bells.signalled(bells.call);
    }),
  },
  {
    name: 'a reset loses the call eventfd: the driver has to bind it again',
    source: 'vduse_dev_reset',
    play: onBells(async ({ driver }, bells) => {
      await bells.bindCall();
      await bells.enable();
      await setStatus(driver, 0);
      await bells.enable();
      await fails(bells.inject(), 'EINVAL');
      await bells.silent(bells.call);
      await bells.bindCall();
      await bells.inject();
      await bells.signalled(bells.call);
    }),
  },
  {
    name: 'the config call eventfd is signalled after DRIVER_OK, and lost at a reset',
    source: 'vduse_dev_irq_inject, vduse_dev_reset',
    play: onBells(async ({ driver }, bells) => {
      await bells.bindConfig();
      await fails(bells.injectConfig(), 'EINVAL', 'ioctl');
      await setStatus(driver, STATUS_DRIVER_OK);
      await bells.injectConfig();
      await bells.signalled(bells.config);
      await setStatus(driver, 0);
      await setStatus(driver, STATUS_DRIVER_OK);
      await bells.injectConfig();
      await bells.silent(bells.config);
      await bells.bindConfig();
      await bells.injectConfig();
      await bells.signalled(bells.config);
      await bells.bindConfig(-1);
      await bells.injectConfig();
      await bells.silent(bells.config);
    }),
  },
  {
    name: 'a config call eventfd that is refused leaves the one before it',
    source: 'vhost_vdpa_set_config_call',
    play: onBells(async ({ driver }, bells) => {
      await bells.bindConfig();
      await fails(bells.bindConfig(9999), 'EBADF', 'ioctl');
      await setStatus(driver, STATUS_DRIVER_OK);
      await bells.injectConfig();
      await bells.signalled(bells.config);
    }),
  },
  {
    name: 'a suspended device gets no kick and gives no interrupt, until a reset',
    source: 'vduse_vdpa_suspend',
    lacks: lacksVduseFeature(vduse.VDUSE_F_SUSPEND),
    play: onBells(
      async ({ driver }, bells) => {
        await bells.bindKick();
        await bells.bindCall();
        await bells.bindConfig();
        await bells.setupKickfd();
        await bells.enable();
        await setStatus(driver, STATUS_DRIVER_OK);
        await bells.quiet();
        await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
        bells.ring();
        await bells.unkicked();
        await fails(bells.inject(), 'EINVAL', 'ioctl');
        await fails(bells.injectConfig(), 'EINVAL', 'ioctl');
        await bells.silent(bells.call);
        await setStatus(driver, 0);
        await setStatus(driver, STATUS_DRIVER_OK);
        await bells.bindConfig();
        await bells.injectConfig();
        await bells.signalled(bells.config);
      },
      { vduseFeatures: mask(vduse.VDUSE_F_SUSPEND) },
    ),
  },
];
