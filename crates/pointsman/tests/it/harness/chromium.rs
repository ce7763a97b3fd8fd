//! A headless browser that a script in Node drives through its pipe (Chrome DevTools Protocol). It ends with the script.

use std::path::Path;
use std::process::Command;

use super::Process;

/// What scripts begin with: `page`, its keys and its complaints.
const PRELUDE: &str = r#"
const { spawn } = require('child_process')
const say = (...words) => console.log(words.map(word => typeof word === 'string' ? word : JSON.stringify(word)).join(' '))
const options = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking',
  '--no-first-run', '--remote-debugging-pipe', '--user-data-dir=' + process.env.HOME]
const browser = spawn('chromium', options, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] })
const pause = span => new Promise(done => setTimeout(done, span))
const asked = new Map(), complaints = []
let number = 0, text = ''
browser.stdio[4].on('data', data => {
  const messages = (text + data).split('\0')
  text = messages.pop()
  for (const message of messages.map(JSON.parse)) {
    if (message.id) { asked.get(message.id)(message); asked.delete(message.id) }
    else if (message.method === 'Runtime.exceptionThrown') complaints.push(JSON.stringify(message.params.exceptionDetails))
    else if (message.method === 'Log.entryAdded' && !['network'].includes(message.params.entry.source)) complaints.push(message.params.entry.text)
  }
})
const send = (method, params, sessionId) => new Promise((done, failed) => {
  asked.set(++number, answer => answer.error ? failed(new Error(method + ': ' + answer.error.message)) : done(answer.result))
  browser.stdio[3].write(JSON.stringify({ id: number, method, params, sessionId }) + '\0')
})
const page = {
  async open(url, { width = 1280, height = 900, dark = false } = {}) {
    const { targetId } = await send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true })
    page.send = (method, params = {}) => send(method, params, sessionId)
    for (const domain of ['Page', 'Log', 'Runtime']) await page.send(domain + '.enable')
    await page.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 })
    await page.theme(dark)
    await page.send('Page.navigate', { url })
  },
  theme: dark => page.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] }),
  async value(expression) {
    const { result, exceptionDetails } = await page.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })
    return exceptionDetails ? undefined : result.value
  },
  async until(expression) {
    for (const end = Date.now() + 30000; ;) {
      const value = await page.value(expression)
      if (value) return value
      if (Date.now() > end) throw new Error('in vain: ' + expression + '\n' + await page.value('document.body.innerText.slice(0, 3000)') + '\n' + complaints.join('\n'))
      await pause(50)
    }
  },
  async press(key) {
    const code = { Enter: 13, Escape: 27 }[key]
    const what = { key, text: code === 13 ? '\r' : code ? undefined : key, windowsVirtualKeyCode: code }
    await page.send('Input.dispatchKeyEvent', { type: 'keyDown', ...what })
    await page.send('Input.dispatchKeyEvent', { type: 'keyUp', ...what })
  },
  async type(text) { for (const key of text) await page.press(key) },
  shows: text => page.until('document.body.innerText.includes(' + JSON.stringify(text) + ')'),
  lacks: text => page.until('!document.body.innerText.includes(' + JSON.stringify(text) + ')'),
}
const run = script => script().then(() => say('done'), error => say('failed', error.stack)).finally(() => { browser.kill('SIGKILL'); process.exit() })
"#;

/// Starts a script: an async function, with the prelude's names. It says `done` at its end. `home`: the browser's folder.
pub(crate) fn in_chromium(script: &str, home: &Path) -> Process {
    std::fs::create_dir_all(home).expect("inside our own folder");
    let program = format!("{PRELUDE}\nrun(async () => {{\n{script}\n}})");
    Process::start(Command::new("node").args(["-e", &program]).env("HOME", home))
}
