$("photo").onclick = () => view(about.rotation);
load(about).then((hint) => { $("hint").textContent = hint; $("paint").hidden = !(state && state.painted); draw(); });
