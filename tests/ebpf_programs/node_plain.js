// A server on Node's event loop: each request takes half a second and says so before it is answered.
const http = require('node:http');

const server = http.createServer((request, response) => {
  setTimeout(() => {
    console.log('handling', request.url);
    response.writeHead(200, { 'Content-Length': 2, Connection: 'close' });
    response.end('ok');
  }, 500);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
