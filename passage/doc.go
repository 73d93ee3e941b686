// Package passage carries TCP out of networks that let only the web pass: through an
// HTTP proxy (CONNECT, RFC 9110 section 9.3.6), and as a WebSocket (RFC 6455) inside a TLS
// connection that looks like a browser's.
//
// Data is a byte stream and stays one: what Through, DialTLS and Accept return is a
// net.Conn. On it both ends speak the TLS that they would have spoken anyway, with the
// same certificates; so whoever sits in between, also one that opens the outer TLS with a
// root of its own, as the middleboxes of companies do, sees the same ciphertext as any
// router. The outer TLS is therefore not verified and nothing is believed because of it.
//
// ListenTCP and ListenUDP open the sockets at which both families arrive.
//
// Below that TLS is a Bulk, with which both ends move many records at once.
//
// It refuses what is no binary stream, requests of browsers (those carry an Origin), and
// heads longer than its limits. It knows no policy and no identity. Decision: 0016.
package passage
