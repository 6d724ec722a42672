// The picture in README.md: the page in a light and in a dark window, side by side.
import { Dashboard } from './harness/dashboard.mjs';
import { closing, openTab, stopBrowser } from './harness/browser.mjs';
import { livedIn } from './harness/lived_in.mjs';

const WIDTH = 1180;
const HEIGHT = 1380;
/** Of the two, beside each other. */
const SCALE = 0.6;

const home = await livedIn();
try {
    const dashboard = await Dashboard.start(home);
    const pictures = [];
    for (const theme of ['light', 'dark']) {
        await dashboard.inTab({ theme, width: WIDTH, height: HEIGHT }, async (tab) => {
            await tab.sees('Morning briefing');
            // Whose machine it was made on is nobody's business.
            await tab.root.$eval('.where .wide', (home) => home.style.setProperty('display', 'none'));
            pictures.push(await tab.page.screenshot({ encoding: 'base64' }));
        });
    }
    const images = pictures.map((picture) => `<img src="data:image/png;base64,${picture}">`);
    await closing(await openTab({ width: WIDTH * 2 * SCALE, height: HEIGHT * SCALE }), async (tab) => {
        await tab.page.setContent(`<style>body { margin: 0; display: flex } img { width: 50% }</style>${images.join('')}`);
        await tab.page.screenshot({ path: process.env.PAGE_PICTURE });
    });
} finally {
    await home.remove();
    await stopBrowser();
}
