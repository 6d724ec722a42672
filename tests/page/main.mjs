// All cases, in one Chromium:  node --test-reporter=spec main.mjs
import { after, before } from 'node:test';
import { startBrowser, stopBrowser } from './harness/browser.mjs';

before(startBrowser);
after(stopBrowser);
await import('./cases/host.mjs');
