import { createInterface } from 'node:readline';
import { ConsoleDevice, openConsole, serve } from 'ringbell';

// The device: what comes in at its port goes out again.
const model = new ConsoleDevice({ ports: [{ name: 'echo' }] });
const device = await serve(model, { name: 'console0' });
const port = model.port('echo');
port.pipe(port);

// The driver: sends lines from the terminal, and shows what comes back.
const driven = await openConsole('console0');
const echo = await driven.port('echo');
const answers = createInterface({ input: echo })[Symbol.asyncIterator]();
console.log(`${driven.name} has the port '${echo.name}': type something, and Ctrl-D at the end`);
for await (const line of createInterface({ input: process.stdin })) {
  echo.write(`${line}\n`);
  const { value } = await answers.next();
  console.log(`echo: ${value}`);
}
await driven.close();
await device.close();
