// Where weir is, whatever a proxy put before it: this file is at <root>/_assets/<version>/root.js. The origin is taken
// from `location`, since a URL with credentials in it cannot be fetched.

export const ROOT = location.origin + new URL("../../", import.meta.url).pathname;
