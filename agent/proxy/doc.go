// Package proxy is how local programs reach the overlay and the overlay reaches local
// programs, without privilege: a SOCKS5 server, an HTTP proxy, and relays that join a
// listener to a target (a forward when the target is on the overlay, an expose when
// the listener is).
//
// All of them stand between a net.Listener that they are given and a Dialer that
// knows names, policy and paths; they hold no configuration of their own but limits.
// What they promise is the truth: a dial is answered before a client is told that it
// succeeded, each failure keeps its reason up to the client's own error code, and a
// connection that was cut is reset on the other side too, so that no client takes
// half a download for a whole one.
//
// They refuse more connections than their limit, handshakes that dawdle, BIND of
// SOCKS, fragmented SOCKS datagrams, and requests that treat the HTTP proxy as a web
// server, which is what a web page could do to it.
//
// Specifications: RFC 1928 and 1929, RFC 9110 section 9.3.6 (CONNECT), RFC 9112
// section 3.2.2 (absolute form), RFC 4787 for the life of UDP flows. Why SOCKS is our
// own: docs/decisions/0071. Reset and half-close: docs/decisions/0072.
package proxy
