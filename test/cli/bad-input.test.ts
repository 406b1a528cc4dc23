import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from './command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'bad-input-'));
const temporary = join(folder, 'temporary');
mkdirSync(temporary);
writeFileSync(join(folder, 'empty.img'), '');
writeFileSync(join(folder, 'ragged.img'), Buffer.alloc(1000));
writeFileSync(join(folder, 'small.img'), Buffer.alloc(2048));
test.after(() => rmSync(folder, { recursive: true }));

const CASES: [options: string[], says: RegExp][] = [
  [[], /no command given/],
  [['fly'], /unknown command 'fly'/],
  [['--fly'], /unknown option '--fly'/],
  [['demo', '--fly'], /'--fly'/],
  [['demo', 'disk.img'], /'disk\.img'/],
  [['demo', '--image'], /--image/],
  [['demo', '--json=yes'], /--json/],
  [['demo', '--image', join(folder, 'none.img')], /none\.img: no such file/],
  [['demo', '--image', folder], /is a directory/],
  [['demo', '--image', '/dev/null'], /is not a regular file/],
  [['demo', '--image', join(folder, 'empty.img')], /is empty/],
  [['demo', '--image', join(folder, 'ragged.img')], /has 1000 bytes, which is no multiple of 512/],
  [['demo', '--image', join(folder, 'small.img')], /--block-size 4 KiB: the image has only 2 KiB/],
  [['demo', '--image', join(folder, 'small.img'), '--size', '1M'], /leave out --image or --size/],
  [['demo', '--size', 'big'], /--size 'big': not a size/],
  [['demo', '--size', '-1'], /--size/],
  [['demo', '--size', '0'], /--size 0: must be from/],
  [['demo', '--size', '1048577'], /--size 1048577: must be a multiple of 512/],
  [['demo', '--size', '900T'], /--size 900T: must be from/],
  [['demo', '--size', '1T'], /--size 1 TiB: .* left; set TMPDIR/],
  [['demo', '--queues', '0'], /--queues '0': must be a whole number from 1 to/],
  [['demo', '--queues', '1.5'], /--queues '1\.5'/],
  [['demo', '--queue-depth', '100000'], /--queue-depth '100000'/],
  [['demo', '--block-size', '100'], /--block-size 100/],
  [['demo', '--block-size', '1M', '--queue-depth', '1024'], /more than 256 MiB in flight/],
  [['demo', '--seconds', '0'], /--seconds '0': must be from/],
  [['demo', '--seconds', 'soon'], /--seconds 'soon'/],
  [['demo', '--mode', 'guess'], /--mode 'guess': must be poll or notify/],
  [['serve'], /serve blk\|net: blk\|net is missing/],
  [['serve', 'gpu', '--name', 'd'], /'gpu' cannot be served: there is blk, net/],
  [['serve', 'net', '--name', 'd'], /give one of --tap NAME and --loopback/],
  [['serve', 'net', '--name', 'd', '--tap', 't', '--loopback'], /give one of --tap NAME and --loopback/],
  [
    ['serve', 'net', '--name', 'd', '--loopback', '--file', 'x'],
    /--file is for serve blk, not for serve net/,
  ],
  [
    ['serve', 'blk', '--name', 'd', '--size', '1M', '--mtu', '9'],
    /--mtu is for serve net, not for serve blk/,
  ],
  [['serve', 'net', '--name', 'd', '--loopback', '--mac', 'x'], /mac must be the address of one device/],
  [['serve', 'net', '--name', 'd', '--loopback', '--mtu', '9'], /--mtu '9'/],
  [['serve', 'net', '--name', 'd', '--loopback', '--queues', '5'], /--queues '5'/],
  [['serve', 'net', '--name', 'd', '--tap', 'sixteen-bytes-ab'], /name must be the name of an interface/],
  [['serve', 'blk', 'disk.img'], /unexpected argument 'disk\.img'/],
  [['serve', 'blk'], /--name is missing/],
  [['serve', 'blk', '--name', 'a/b', '--size', '1M'], /name must be/],
  [['serve', 'blk', '--name', 'd'], /give one of --file FILE, --nbd URI and/],
  [['serve', 'blk', '--name', 'd', '--file', 'x', '--size', '1M'], /give one of --file FILE, --nbd URI and/],
  [['serve', 'blk', '--name', 'd', '--file', join(folder, 'none.img')], /--file .*none\.img: no such file/],
  [['serve', 'blk', '--name', 'd', '--nbd', 'x', '--file', 'x'], /give one of --file FILE, --nbd URI and/],
  [['serve', 'blk', '--name', 'd', '--size', '1M', '--base', 'x'], /--base needs --file/],
  [
    [
      'serve',
      'blk',
      '--name',
      'd',
      '--file',
      join(folder, 'ragged.img'),
      '--base',
      join(folder, 'small.img'),
    ],
    /ragged\.img is not an overlay file/,
  ],
  [
    ['serve', 'blk', '--name', 'd', '--file', join(folder, 'new'), '--base', join(folder, 'none.img')],
    /cannot open the disk's file: .*none\.img/,
  ],
  [['serve', 'blk', '--name', 'd', '--nbd', 'disk.img'], /disk\.img: not a URI/],
  [['serve', 'blk', '--name', 'd', '--nbd', 'nbd://host/?a=b'], /there is no parameter 'a'/],
  [['serve', 'blk', '--name', 'd', '--size', '1000'], /--size 1000: must be a multiple of 512/],
  [['serve', 'blk', '--name', 'd', '--size', '1M', '--attach', 'pci'], /--attach 'pci': must be vhost or/],
  [['serve', 'blk', '--name', 'd', '--size', '1M', '--queues', '65'], /--queues '65'/],
  [
    ['serve', 'blk', '--name', 'd', '--size', '1M', '--flight', '/dev/null'],
    /--flight \/dev\/null: no such folder/,
  ],
  [['inspect'], /FILE is missing/],
  [
    ['serve', 'blk', '--name', 'd', '--size', '1M', '--queue-size', '100'],
    /--queue-size 100: must be a power/,
  ],
  [['serve', 'blk', '--name', 'd', '--size', '1M', '--threads', 'x'], /--threads 'x'/],
  [
    ['serve', 'blk', '--name', 'd', '--size', '1M', '--transport', 'bus'],
    /only vduse reaches other processes/,
  ],
  [['info', 'a', 'b'], /unexpected argument 'b'/],
  [['info', '--all'], /'--all'/],
  [['top', '--interval', '0'], /--interval '0': must be from 0\.1/],
  [['top', 'a', 'b'], /unexpected argument 'b'/],
  [['doctor', '--cure'], /'--cure'/],
  [['doctor', 'now'], /'now'/],
];

for (const [options, says] of CASES)
  test(`ringbell ${options.join(' ').replace(folder, 'DIR')} is refused on one line, with status 2`, async () => {
    const { status, stdout, stderr } = await run(options, { TMPDIR: temporary });
    assert.match(stderr, says);
    assert.match(stderr, /^ringbell: [^\n]+\n$/);
    assert.is(stdout, '');
    assert.is(status, 2);
    assert.equal(readdirSync(temporary), []);
  });

test('an image that may not be read is refused on one line, with status 2', async () => {
  if (process.getuid?.() === 0) {
    console.log('skipped: root may read every file');
    return;
  }
  const path = join(folder, 'secret.img');
  writeFileSync(path, Buffer.alloc(4096), { mode: 0 });
  const { status, stderr } = await run(['demo', '--image', path]);
  assert.match(stderr, /^ringbell: --image [^\n]+: permission denied\n$/);
  assert.is(status, 2);
});

test('a character device that is not there is a failure on one line, with status 1', async () => {
  const { status, stdout, stderr } = await run(['info', '/dev/vhost-vdpa-none']);
  assert.is(stderr, 'ringbell: there is no /dev/vhost-vdpa-none\n');
  assert.is(stdout, '');
  assert.is(status, 1);
});

test('a temporary directory that cannot be made is a failure on one line, with status 1', async () => {
  const { status, stderr } = await run(['demo', '--size', '1M'], { TMPDIR: join(folder, 'nowhere') });
  assert.match(stderr, /^ringbell: ENOENT[^\n]+\n$/);
  assert.is(status, 1);
});

test('an NBD server that is not there is a failure on one line, with status 1', async () => {
  const uri = `nbd+unix:///?socket=${join(folder, 'nobody')}`;
  const { status, stderr } = await run(['serve', 'blk', '--name', 'd', '--nbd', uri]);
  assert.match(stderr, /^ringbell: nbd\+unix:[^\n]+ENOENT[^\n]+\n$/);
  assert.is(status, 1);
});

test('NODE_DEBUG=ringbell shows where a failure came from', async () => {
  const { status, stderr } = await run(['demo', '--size', '1M'], {
    TMPDIR: join(folder, 'nowhere'),
    NODE_DEBUG: 'ringbell',
  });
  assert.match(stderr, /\n\s+at /);
  assert.is(status, 1);
});

test.run();
