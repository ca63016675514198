// Positions in space, turning: drawn on the canvas of each source from what `status` tells. Drag to turn them yourself.
const spaces = new Map();
let turn = 0, dragged = false, before = performance.now();

function keepSpace(index, space) {
  const canvas = document.getElementById("space" + index);
  canvas.hidden = !space;
  if (!space) { spaces.delete(canvas); return; }
  if (!spaces.has(canvas)) {
    canvas.onpointerdown = (event) => { dragged = true; canvas.setPointerCapture(event.pointerId); };
    canvas.onpointerup = () => { dragged = false; };
    canvas.onpointermove = (event) => { if (dragged) turn += event.movementX / 100; };
  }
  spaces.set(canvas, space);
}

function drawSpace(canvas, space) {
  const pen = canvas.getContext("2d"), { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  pen.lineWidth = 3;
  pen.lineCap = "round";
  pen.font = "bold 20px sans-serif";
  pen.textAlign = "center";
  pen.fillStyle = getComputedStyle(canvas).color;
  const tilt = 0.25, people = space.people.length;
  const scale = Math.min(width / Math.max(people, 1), height) / 2.4;  // px a metre: 1.2 m to each side of the root
  space.people.forEach((points, person) => {
    // x to the right, y down, z away from the viewer: turned about the upright axis, and seen from a little above
    const place = ([x, y, z]) => {
      const away = z * Math.cos(turn) - x * Math.sin(turn);
      return [
        (person + 0.5) * width / people + scale * (x * Math.cos(turn) + z * Math.sin(turn)),
        height / 2 + scale * (y * Math.cos(tilt) - away * Math.sin(tilt)),
      ];
    };
    for (const [a, b, color] of space.limbs) {
      if (!points[a] || !points[b]) continue;
      pen.strokeStyle = color;
      pen.beginPath();
      pen.moveTo(...place(points[a]));
      pen.lineTo(...place(points[b]));
      pen.stroke();
    }
    if (space.ids.length) pen.fillText(space.ids[person], (person + 0.5) * width / people, height - 8);  // as in the picture
  });
}

function turnSpaces(now) {
  if (!dragged) turn += (now - before) / 4000;
  before = now;
  spaces.forEach((space, canvas) => drawSpace(canvas, space));
  requestAnimationFrame(turnSpaces);
}
requestAnimationFrame(turnSpaces);
