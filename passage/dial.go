package passage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// plainIn is how long plain TLS is tried before the web's shape is: long enough for a
// slow line, short enough to leave time for the other.
const plainIn = 4 * time.Second

// Way remembers which shape worked last, so that a network that needs the other one is
// not asked twice each time. The zero value tries plain TLS first.
type Way struct {
	web   atomic.Bool
	proxy atomic.Pointer[string]
}

// Web reports whether the last connection needed the shape of the web.
func (w *Way) Web() bool { return w.web.Load() }

// Proxy is the host of the proxy that the last connection went through; empty: it went
// straight.
func (w *Way) Proxy() string {
	if p := w.proxy.Load(); p != nil {
		return *p
	}
	return ""
}

// String is the shape in the words of status: by proxy HOST, as a WebSocket, both, or empty
// for plain TLS.
func (w *Way) String() string {
	var words []string
	if p := w.Proxy(); p != "" {
		words = append(words, "by proxy "+p)
	}
	if w.Web() {
		words = append(words, "as a WebSocket")
	}
	return strings.Join(words, ", ")
}

// Forget has plain TLS tried first again: the network has changed.
func (w *Way) Forget() { w.web.Store(false) }

// DialTLS connects to addr and speaks TLS with cfg, whose NextProtos must be agreed on;
// when something in between does not let that pass, it does so inside a WebSocket. The
// TLS that it returns is verified by cfg in either case.
func DialTLS(ctx context.Context, dial Dial, addr string, cfg *tls.Config, way *Way) (*tls.Conn, error) {
	shapes := []func(context.Context, net.Conn, string) (net.Conn, error){plain, web}
	first := 0
	if way.web.Load() {
		first = 1
	}
	var errs [2]error // of each shape
	for i := range shapes {
		shape := (first + i) % len(shapes)
		raw, err := dial(ctx, "tcp", addr)
		if err != nil { // there is no way at all: another shape needs the same connection
			return nil, errors.Join(err, said(errs[0], errs[1]))
		}
		c, err := secure(ctx, raw, addr, cfg, shapes[shape])
		if err == nil {
			way.web.Store(shape == 1)
			by := proxyOf(raw)
			way.proxy.Store(&by)
			return c, nil
		}
		raw.Close()
		if errs[shape] = err; ctx.Err() != nil {
			break
		}
	}
	return nil, said(errs[0], errs[1])
}

// said puts what each shape came to into one line, plain TLS first, and once where the
// same server said the same by both.
func said(plain, web error) error {
	switch {
	case web == nil:
		return plain
	case plain == nil:
		return fmt.Errorf("as a WebSocket: %w", web)
	case plain.Error() == web.Error():
		return plain
	}
	return fmt.Errorf("%w; as a WebSocket: %w", plain, web)
}

func secure(ctx context.Context, raw net.Conn, addr string, cfg *tls.Config, shape func(context.Context, net.Conn, string) (net.Conn, error)) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, plainIn)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	inner, err := shape(ctx, raw, addr)
	if err != nil {
		stop()
		return nil, err
	}
	c := tls.Client(NewBulk(inner), cfg)
	err = c.HandshakeContext(ctx)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if got := c.ConnectionState().NegotiatedProtocol; !slices.Contains(cfg.NextProtos, got) {
		return nil, fmt.Errorf("TLS: speaks %.40q, not one of %q", got, cfg.NextProtos)
	}
	return c, nil
}

func plain(_ context.Context, raw net.Conn, _ string) (net.Conn, error) { return raw, nil }

// web wraps raw into TLS as a browser would and asks for a stream. Nobody is verified
// here: a middlebox that opens this layer is what it is for.
func web(ctx context.Context, raw net.Conn, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	outer := tls.Client(raw, &tls.Config{ServerName: host, NextProtos: []string{WebALPN}, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true}) // #nosec: see above
	if err := outer.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return open(outer, addr)
}

// WebALPN is the protocol of the outer TLS.
const WebALPN = "http/1.1"
