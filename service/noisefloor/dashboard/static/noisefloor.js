// A button that copies beside each command. Pages say everything without it.
for (const frame of document.querySelectorAll(".copyable")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    getSelection().selectAllChildren(frame.querySelector("pre"));
    // navigator.clipboard is missing over plain HTTP, where most services of a team are.
    button.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
  });
  frame.append(button);
}
