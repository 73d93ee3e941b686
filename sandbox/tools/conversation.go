package tools

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"time"
	"unicode/utf8"
)

// conversation is a TCP service of the overlay: it sends the argument "data" and
// returns what comes back, a line or all of it.
type conversation struct {
	addr string
	line bool
}

func (t *conversation) call(ctx context.Context, args map[string]any, c callInfo) (any, error) {
	data, ok := args["data"].(string)
	if _, given := args["data"]; given && !ok {
		return nil, failure(InvalidArgs, nil, "argument data has to be a string")
	}
	c.phase(Connecting, 0)
	conn, err := c.overlay.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, failure(Failed, err, "the service could not be reached")
	}
	defer conn.Close()
	// A dead line in the past ends a read or write that is under way.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.phase(Sending, 0)
	if t.line {
		data += "\n"
	}
	if _, err := io.WriteString(conn, data); err != nil {
		return nil, failure(Failed, err, "the service closed the connection")
	}
	c.phase(Processing, 0)
	text, err := t.read(conn, c.max)
	if err != nil {
		return nil, err
	}
	c.phase(Receiving, int64(len(text)))
	if !utf8.Valid(text) {
		return nil, failure(ResultNotSafe, nil, "the service's answer is not text")
	}
	return string(text), nil
}

func (t *conversation) read(conn net.Conn, max int64) (text []byte, err error) {
	if t.line {
		text, err = bufio.NewReader(io.LimitReader(conn, max+2)).ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) > 0 {
			err = nil
		}
		if n := len(text); n > 0 && text[n-1] == '\n' {
			text = text[:n-1]
		}
	} else {
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite() // its answer shows whether that worked
		}
		text, err = io.ReadAll(io.LimitReader(conn, max+1))
	}
	switch {
	case err != nil:
		return nil, failure(Failed, err, "the service's answer broke off")
	case int64(len(text)) > max:
		return nil, failure(ResponseTooLarge, nil, "the service's answer has more than %d bytes", max)
	}
	return text, nil
}
