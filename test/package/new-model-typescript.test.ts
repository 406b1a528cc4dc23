import { test } from 'uvu';
import { tryNewModel } from './project.js';

test('a new model in TypeScript, with the package as it is published, builds, passes its test and measures', () => {
  tryNewModel('typescript');
});

test.run();
