import { NetSwitch, openNet, serve } from 'ringbell';

/** EtherType of experiments (IEEE 802, "Local Experimental Ethertype 1"). */
const ETHERTYPE = '88b5';
const ETHERNET_HEADER = 14;

const lan = new NetSwitch();

/** A network device on the switch, and its driver. */
async function join(name, mac) {
  const device = await serve(lan.port({ mac }), { name });
  return { name, device, net: await openNet(name) };
}

const frame = (to, from, text) =>
  Buffer.concat([
    Buffer.from(`${to}${from}`.replaceAll(':', '').concat(ETHERTYPE), 'hex'),
    Buffer.from(text),
  ]);

async function hear({ name, net }) {
  const [heard] = await net.receive();
  console.log(`${name} hears: ${Buffer.from(heard).toString('latin1', ETHERNET_HEADER)}`);
}

const anna = await join('anna', '02:00:00:00:00:0a');
const bert = await join('bert', '02:00:00:00:00:0b');

await anna.net.send(frame('ff:ff:ff:ff:ff:ff', anna.net.config.mac, 'is anybody there?'));
await hear(bert);
await bert.net.send(frame(anna.net.config.mac, bert.net.config.mac, 'yes, bert is'));
await hear(anna);
const { forwarded, flooded, addresses } = lan.stats();
console.log(`${flooded} frame went to everybody, ${forwarded} to one of ${addresses} known addresses`);

for (const { net, device } of [anna, bert]) {
  await net.close();
  await device.close();
}
