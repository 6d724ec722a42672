// All cases, in one Chromium:  node --test-reporter=spec main.mjs
import { after, before } from 'node:test';
import { startBrowser, stopBrowser } from './harness/browser.mjs';

before(startBrowser);
after(stopBrowser);
for (const name of ['alone', 'host', 'hostile', 'everyone', 'load']) await import(`./cases/${name}.mjs`);
