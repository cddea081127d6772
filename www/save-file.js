// A file for the visitor to keep.

/** Time for the browser to begin with a download, whose address is given back then. */
const DOWNLOAD_MS = 60_000;

/** @param {Blob} file @param {string} name the browser saves it as */
export function offerDownload(file, name) {
  const href = URL.createObjectURL(file);
  const link = document.createElement('a');
  Object.assign(link, { href, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(href), DOWNLOAD_MS);
}
