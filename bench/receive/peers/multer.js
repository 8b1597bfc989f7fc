// The replaced service's way: Express and multer 2 with diskStorage ("plain"); and the same work as
// Headgate does ("same"): hashed as it streams, fsync, rename, fsync of the folder, then the answer.
// node multer.js HOW PORT FOLDER [PROCESSES]: more than one by Node's own cluster, as its documentation has it.

const cluster = require('node:cluster');
const crypto = require('node:crypto');
const fs = require('node:fs');
const fsp = fs.promises;
const path = require('node:path');
const { pipeline } = require('node:stream/promises');
const { Transform } = require('node:stream');
const express = require('express');
const multer = require('multer');

const [how, port, folder, processes = '1'] = process.argv.slice(2);
const tmp = path.join(folder, 'tmp');
const kept = path.join(folder, 'new');
for (const one of [tmp, kept]) fs.mkdirSync(one, { recursive: true });

const unique = () => crypto.randomBytes(16).toString('hex');

const plain = multer.diskStorage({
  destination: kept,
  filename: (request, file, done) => done(null, `${unique()}.jpg`),
});

async function store(file) {
  const name = `${unique()}.jpg`;
  const from = path.join(tmp, name);
  const hash = crypto.createHash('sha256');
  let size = 0;
  const hashed = new Transform({
    transform(piece, encoding, done) {
      hash.update(piece);
      size += piece.length;
      done(null, piece);
    },
  });
  // flush: fsync before the file is closed.
  await pipeline(file.stream, hashed, fs.createWriteStream(from, { flags: 'wx', flush: true }));
  await fsp.rename(from, path.join(kept, name));
  const parent = await fsp.open(kept, 'r');
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
  return { filename: name, size, sha256: hash.digest('hex') };
}

const same = {
  _handleFile: (request, file, done) => store(file).then((stored) => done(null, stored), done),
  _removeFile: (request, file, done) => fs.unlink(path.join(kept, file.filename), done),
};

const app = express();
const upload = multer({ storage: how === 'same' ? same : plain });
app.post('/uploadImage', upload.single('image'), (request, response) => {
  const { filename, size, sha256 } = request.file;
  response.status(201).json({ id: filename, size, sha256, device: request.body.device });
});
if (cluster.isPrimary && Number(processes) > 1) {
  for (let number = 0; number < Number(processes); number += 1) cluster.fork();
} else {
  app.listen(Number(port), '127.0.0.1');
}
