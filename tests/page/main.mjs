// All cases, in one Chromium:  node --test-reporter=spec main.mjs
import { after } from 'node:test';
import { stopBrowser } from './harness/browser.mjs';
import './cases/alone.mjs';
import './cases/host.mjs';
import './cases/hostile.mjs';
import './cases/everyone.mjs';
import './cases/facts.mjs';
import './cases/questions.mjs';
import './cases/load.mjs';
import './cases/slurm.mjs';

after(stopBrowser);
