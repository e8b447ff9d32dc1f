// An echo server with the library `ws`, for tests: says where it listens, then counts what came. /fragments answers
// in fragments with a ping in between; /stats tells the counts as a message.
const { WebSocketServer } = require("ws");

const counts = { connections: 0, messages: 0, pings: 0, closes: {} };
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0 } });

server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));
server.on("connection", (socket, request) => {
  if (request.url === "/stats") {
    socket.send(JSON.stringify(counts));
    return;
  }
  counts.connections += 1;
  socket.on("ping", () => { counts.pings += 1; });
  socket.on("close", (code) => { counts.closes[code] = (counts.closes[code] || 0) + 1; });
  socket.on("message", (data, binary) => {
    counts.messages += 1;
    if (request.url !== "/fragments") {
      socket.send(data, { binary });
      return;
    }
    const third = Math.ceil(data.length / 3);
    socket.send(data.subarray(0, third), { binary, fin: false });
    socket.ping("in between");
    socket.send(data.subarray(third, 2 * third), { binary, fin: false });
    socket.send(data.subarray(2 * third), { binary, fin: true });
  });
});
