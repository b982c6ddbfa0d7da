// Small pictures of test images, shared by all views of the page: each is asked for once and kept.

const FORGET = 4000;
const ASK_AGAIN_MS = 4000;
const PICTURES = (window.workbenchPictures ||= { kept: new Map(), asked: new Map(), told: new Set() });
const pictureKey = (pool, image) => `${pool}:${image}`;

// Asks for those of `images` that are not here and that nobody has asked for lately.
function wantPictures(model, images) {
  const pool = model.get("pool");
  const now = performance.now();
  const missing = images.filter((image) => {
    const key = pictureKey(pool, image);
    return !PICTURES.kept.has(key) && !(PICTURES.asked.get(key) > now - ASK_AGAIN_MS);
  });
  if (!missing.length) return;
  for (const image of missing) PICTURES.asked.set(pictureKey(pool, image), now);
  model.send({ do: "images", images: missing });
}

async function keepPictures({ pool, images, width, height }, buffers) {
  let sheet;
  try { sheet = await createImageBitmap(new Blob([buffers[0]])); } catch { return; }
  images.forEach((image, row) => {
    const key = pictureKey(pool, image);
    PICTURES.kept.set(key, { sheet, row, width, height });
    PICTURES.asked.delete(key);
  });
  for (const key of PICTURES.kept.keys()) { if (PICTURES.kept.size <= FORGET) break; PICTURES.kept.delete(key); }
  for (const tell of [...PICTURES.told]) tell();
}

// Draws an image's picture, or leaves the canvas as blank as it is. Returns whether it was here.
function drawPicture(canvas, pool, image) {
  const key = pictureKey(pool, image);
  if (canvas.dataset.drawn === key) return true;
  const found = PICTURES.kept.get(key);
  if (!found) {
    if (canvas.dataset.drawn) { canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height); delete canvas.dataset.drawn; }
    return false;
  }
  const { sheet, row, width, height } = found;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  pen.drawImage(sheet, 0, row * height, width, height, 0, 0, width, height);
  canvas.dataset.drawn = key;
  return true;
}

// Draws pixels (height, width, 1 or 3) as they are.
function drawPixels(canvas, view, [height, width, channels]) {
  const values = typed(view, Uint8Array);
  if (values.length !== height * width * channels) return false;
  const image = new ImageData(width, height);
  for (let at = 0; at < height * width; at += 1) {
    for (let channel = 0; channel < 3; channel += 1) image.data[4 * at + channel] = values[at * channels + (channels === 3 ? channel : 0)];
    image.data[4 * at + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return true;
}
