// The explorer in a notebook: the page in a frame of its own, which tells Python the settings that are chosen on it.

export default {
  render({ model, el }) {
    const frame = document.createElement("iframe");
    frame.srcdoc = model.get("page");
    frame.title = "inercia explorer";
    frame.style.cssText = `width: 100%; height: ${model.get("height")}px; border: 0;`;
    const heard = ({ source, data }) => {
      if (source !== frame.contentWindow || !data?.inercia) return;
      model.set("settings", data.inercia);
      model.save_changes();
    };
    window.addEventListener("message", heard);
    el.append(frame);
    return () => window.removeEventListener("message", heard);
  },
};
