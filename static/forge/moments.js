// Fields of a date and a time, in the reader's zone: what is sent is the moment itself, which the
// server would otherwise take to be of its own zone.
const pad = (number) => String(number).padStart(2, "0");
const FIELDS = "input[data-moment]";

for (const field of document.querySelectorAll(FIELDS)) {
  const at = new Date(field.dataset.moment);
  if (Number.isNaN(at.getTime())) continue;
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  field.value = field.defaultValue = `${day}T${pad(at.getHours())}:${pad(at.getMinutes())}`;
}

document.addEventListener("formdata", ({ target, formData }) => {
  for (const field of target.querySelectorAll(FIELDS)) {
    const at = new Date(field.value);
    if (field.dataset.moment && field.value === field.defaultValue) {
      formData.set(field.name, field.dataset.moment); // with its seconds, which the field lacks
    } else if (!Number.isNaN(at.getTime())) {
      formData.set(field.name, `${at.toISOString().slice(0, 16)}Z`);
    }
  }
});
