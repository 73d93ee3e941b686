package passage

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// Path is where a server takes streams.
	Path = "/enclave/stream"

	// protocol is the subprotocol (RFC 6455 section 1.9); its number is the version.
	protocol = "enclave-1"

	acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 section 1.3
)

// ErrNotWeb is returned for a peer that does not speak our side of the upgrade.
var ErrNotWeb = errors.New("no stream of the web")

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + acceptGUID)) // #nosec: the RFC's, and no secret
	return base64.StdEncoding.EncodeToString(sum[:])
}

// open asks for a stream on c; host is for whoever reads the request on the way. The
// caller bounds the time.
func open(c net.Conn, host string) (net.Conn, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n", Path, host, key, protocol)
	if err != nil {
		return nil, err
	}
	in := newInput(c)
	resp, err := http.ReadResponse(in.Reader, nil)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %v", ErrNotWeb, err)
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("%w: %.80q", ErrNotWeb, resp.Status)
	case !has(resp.Header, "Upgrade", "websocket") || !has(resp.Header, "Connection", "upgrade") ||
		resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) || resp.Header.Get("Sec-WebSocket-Protocol") != protocol ||
		resp.Header.Get("Sec-WebSocket-Extensions") != "":
		return nil, fmt.Errorf("%w: the upgrade is not ours", ErrNotWeb)
	}
	return newStream(in.conn(c), true), nil
}

// has reports whether a header's list has a token, whatever its case.
func has(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// check judges a request for a stream; the status is the answer to a bad one.
func check(r *http.Request) (answer string, status int) {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	switch {
	case r.URL.Path != Path:
		return "", http.StatusNotFound
	case r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return "", http.StatusMethodNotAllowed
	case r.Header.Get("Origin") != "":
		return "", http.StatusForbidden // a page in a browser: none has business here
	case !has(r.Header, "Upgrade", "websocket") || !has(r.Header, "Connection", "upgrade") ||
		r.Header.Get("Sec-WebSocket-Version") != "13" || err != nil || len(key) != 16 || !has(r.Header, "Sec-WebSocket-Protocol", protocol):
		return "", http.StatusUpgradeRequired
	}
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(r.Header.Get("Sec-WebSocket-Key")) + "\r\nSec-WebSocket-Protocol: " + protocol + "\r\n\r\n", 0
}

// Accept reads a request from c and returns the stream that it asked for. On an error c
// has been answered and is of no more use. The caller bounds the time.
func Accept(c net.Conn) (net.Conn, error) {
	in := newInput(c)
	r, err := http.ReadRequest(in.Reader)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotWeb, err)
	}
	answer, status := check(r)
	if status != 0 {
		fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, http.StatusText(status))
		return nil, fmt.Errorf("%w: answered %d", ErrNotWeb, status)
	}
	if _, err := c.Write([]byte(answer)); err != nil {
		return nil, err
	}
	return newStream(in.conn(c), false), nil
}

// Upgrade takes a stream out of an HTTP server, which has nothing more to do with the
// connection. On an error the request has been answered.
func Upgrade(w http.ResponseWriter, r *http.Request) (net.Conn, error) {
	answer, status := check(r)
	h, ok := w.(http.Hijacker)
	if status == 0 && !ok {
		status = http.StatusUpgradeRequired
	}
	if status != 0 {
		http.Error(w, http.StatusText(status), status)
		return nil, fmt.Errorf("%w: answered %d", ErrNotWeb, status)
	}
	c, buf, err := h.Hijack()
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Time{}) // the server's, for the head
	if _, err := c.Write([]byte(answer)); err != nil {
		c.Close()
		return nil, err
	}
	if buf.Reader.Buffered() > 0 {
		c = &early{c, buf.Reader}
	}
	return newStream(c, false), nil
}
