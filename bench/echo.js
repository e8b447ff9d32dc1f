// The target of the WebSocket parts: an echo server with the library `ws`, without compression, that counts by itself.
// It says where it listens, and tells its counts to whoever GETs anything over plain HTTP at the same place.
const http = require("http");
const { WebSocketServer } = require("ws");

const counts = { connections: 0, open: 0, messages: 0 };
const server = http.createServer((request, response) => response.end(JSON.stringify(counts)));
server.keepAliveTimeout = 0; // the bench keeps its connection, and looks from time to time

new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false }).on("connection", (socket) => {
  counts.connections += 1;
  counts.open += 1;
  socket.on("close", () => { counts.open -= 1; });
  socket.on("error", () => {}); // a client that is killed; its close follows
  socket.on("message", (data, binary) => {
    counts.messages += 1;
    socket.send(data, { binary });
  });
});
server.listen({ host: process.argv[2], port: 0, backlog: 4096 }, () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
