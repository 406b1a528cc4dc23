import { test } from 'uvu';
import { tryNewModel } from './project.js';

test('a new model in AssemblyScript, with the package as it is published, builds, passes its test and measures', () => {
  tryNewModel('assemblyscript');
});

test.run();
