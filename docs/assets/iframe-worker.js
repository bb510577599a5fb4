// A page that was opened from a file may start no worker: the search runs in a hidden frame then, which answers alike.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const home = new URL(url, location.href);
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow, body = frame.contentDocument.body;
      const load = (source) => new Promise((done, failed) => {
        const script = frame.contentDocument.createElement("script");
        Object.assign(script, { src: new URL(source, home), onload: done, onerror: failed });
        body.append(script);
      });
      const answer = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      inside.IFrameWorker = window.IFrameWorker;
      inside.postMessage = (data) => setTimeout(() => answer(data));
      inside.importScripts = async (...sources) => { for (const source of sources) await load(source); };
      this.send = (data) => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      this.ready = load(home);
      this.close = () => frame.remove();
    }
    postMessage(data) { this.ready.then(() => this.send(data)); }
    terminate() { this.close(); }
  };
  window.Worker = window.IFrameWorker;
}
