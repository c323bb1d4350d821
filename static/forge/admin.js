// Names for what Django's scripts and theirs draw without one, for those who only hear the page.
(() => {
  function name() {
    for (const icon of document.querySelectorAll(".search-label-icon")) icon.setAttribute("role", "img");
    for (const text of document.querySelectorAll(".select2-selection__rendered")) {
      const field = text.closest(".select2").parentElement?.querySelector("select");
      if (!field) continue;
      const label = document.querySelector(`label[for="${CSS.escape(field.id)}"]`);
      text.setAttribute("aria-label", (label?.textContent || field.ariaLabel || "Choice").replace(/:$/, ""));
    }
  }

  // Whenever Django's scripts draw another one, which may be after everything has loaded.
  new MutationObserver(name).observe(document.documentElement, { childList: true, subtree: true });
  name();
})();
