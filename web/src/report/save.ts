// Saves the data that the page carries, as they stand in it.

export function startSave(): void {
  document.querySelector("[data-save]")?.addEventListener("click", () => {
    const text = document.getElementById("diagnosis")?.textContent ?? "";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "diagnosis.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
