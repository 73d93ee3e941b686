package tools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strings"
	"unicode/utf8"

	"enclave/wire"
)

// endpoint makes a call an HTTP request.
type endpoint struct {
	method  string
	url     *template
	headers map[string]string // with secrets
	client  *http.Client      // nil on the overlay, where each run dials for itself
	spread  map[string]string // arguments that become headers: name to header
	body    string            // the argument that is the whole body, if there is one
}

// keptConns is how many idle connections an endpoint keeps.
const keptConns = 8

func newEndpoint(e *Endpoint, overlay bool, s secrets) (*endpoint, error) {
	t, err := parseTemplate(e.URL)
	if err != nil {
		return nil, err
	}
	out := &endpoint{method: e.Method, url: t, headers: s.injectAll(e.Headers)}
	if out.method == "" {
		out.method = http.MethodGet
	}
	if overlay {
		return out, nil
	}
	allow, err := prefixes(e.Allow)
	if err != nil {
		return nil, err
	}
	out.client = httpClient(guarded(allow), keptConns)
	return out, nil
}

func (e *endpoint) call(ctx context.Context, args map[string]any, c callInfo) (any, error) {
	req, err := e.request(ctx, args, c)
	if err != nil {
		return nil, err
	}
	client := e.client
	if client == nil {
		client = httpClient(c.overlay.DialContext, 0)
	}
	c.phase(Connecting, 0)
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { c.phase(Sending, 0) },
		WroteRequest:         func(httptrace.WroteRequestInfo) { c.phase(Processing, 0) },
		GotFirstResponseByte: func() { c.phase(Receiving, 0) },
	}))
	res, err := client.Do(req)
	if err != nil {
		switch {
		case errors.Is(err, errRedirect):
			return nil, failure(Forbidden, err, "the service redirected to another host, which is not followed")
		case errors.Is(err, errGuarded):
			return nil, failure(Forbidden, err, "the service's address is not one this tool may reach")
		}
		return nil, failure(Failed, err, "the service could not be reached")
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		said := ""
		if text, err := io.ReadAll(io.LimitReader(res.Body, 4*maxTold)); err == nil {
			said = c.told(string(text))
		}
		return nil, failure(statusCode(res.StatusCode), nil, "the service answered %d%s", res.StatusCode, said)
	}
	body, err := io.ReadAll(io.LimitReader(&counted{from: res.Body, told: c.phase}, c.max+1))
	if err != nil {
		return nil, failure(Failed, err, "the service's answer broke off")
	}
	if int64(len(body)) > c.max {
		return nil, failure(ResponseTooLarge, nil, "the service's answer has more than %d bytes", c.max)
	}
	return readBody(res.Header.Get("Content-Type"), body)
}

// statusCode keeps answers that another try will not change from being tried again.
func statusCode(status int) Code {
	if status == http.StatusTooManyRequests {
		return RateLimited
	}
	return Failed
}

func (e *endpoint) request(ctx context.Context, args map[string]any, c callInfo) (*http.Request, error) {
	at, rest, err := e.url.expand(args)
	if err != nil {
		return nil, err
	}
	headers := make(http.Header)
	for name, header := range e.spread {
		v, ok := rest[name]
		delete(rest, name)
		if !ok {
			continue
		}
		text, err := plain(name, v)
		if err != nil {
			return nil, err
		}
		if strings.ContainsAny(text, "\r\n\x00") {
			return nil, failure(InvalidArgs, nil, "argument %s cannot be a header", name)
		}
		headers.Set(header, text)
	}
	var body io.Reader
	switch e.method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		var payload any = rest
		if e.body != "" {
			one, ok := rest[e.body]
			if !ok {
				break // it may be left out
			}
			payload = one
		}
		text, err := encode(payload)
		if err != nil {
			return nil, failure(InvalidArgs, err, "the arguments are not JSON")
		}
		body = bytes.NewReader(text)
		headers.Set("Content-Type", "application/json")
	}
	req, err := http.NewRequestWithContext(ctx, e.method, at, body)
	if err != nil {
		return nil, failure(InvalidArgs, err, "the arguments make no URL")
	}
	headers.Set("Accept", "application/json")
	headers.Set("User-Agent", "enclave-sandbox")
	headers.Set("Enclave-Run", c.run)
	for name, v := range e.headers {
		headers.Set(name, v)
	}
	req.Header = headers
	return req, nil
}

// readBody makes a value of a body: JSON where it says so, else text.
func readBody(contentType string, body []byte) (any, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json")) {
		if err := wire.CheckJSON(body); err != nil {
			return nil, failure(ResultNotJSON, err, "the service's answer is not JSON that can be passed on")
		}
		return decode(body)
	}
	if !utf8.Valid(body) {
		return nil, failure(ResultNotSafe, fmt.Errorf("%s of %d bytes", contentType, len(body)), "the service's answer is neither JSON nor text")
	}
	return string(body), nil
}
