package tools

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync"
)

// mcpHTTP is a server behind the streamable HTTP transport: every message is a POST,
// answered by JSON or by a stream of events that ends with the answer.
type mcpHTTP struct {
	url     string
	headers map[string]string
	client  *http.Client

	mu      sync.Mutex // guards what follows
	next    int
	session string
	agreed  string
}

func (h *mcpHTTP) version(v string) {
	h.mu.Lock()
	h.agreed = v
	h.mu.Unlock()
}

// maxEvents bounds how many events may come before an answer.
const maxEvents = 10_000

func (h *mcpHTTP) post(ctx context.Context, m rpc) (*http.Response, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	for k, v := range h.headers {
		req.Header.Set(k, v)
	}
	h.mu.Lock()
	if h.session != "" {
		req.Header.Set("Mcp-Session-Id", h.session)
	}
	if h.agreed != "" {
		req.Header.Set("MCP-Protocol-Version", h.agreed)
	}
	had := h.session != ""
	h.mu.Unlock()
	res, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	switch {
	case res.StatusCode == http.StatusNotFound && had: // the session has ended: begin another
		res.Body.Close()
		return nil, errMCPGone
	case res.StatusCode < 200 || res.StatusCode > 299:
		res.Body.Close()
		return nil, fmt.Errorf("the server answered %d", res.StatusCode)
	}
	if id := res.Header.Get("Mcp-Session-Id"); id != "" && len(id) <= 256 {
		h.mu.Lock()
		h.session = id
		h.mu.Unlock()
	}
	return res, nil
}

func (h *mcpHTTP) notify(ctx context.Context, method string, params any) error {
	b, err := encode(params)
	if err != nil {
		return err
	}
	res, err := h.post(ctx, rpc{JSONRPC: "2.0", Method: method, Params: b})
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func (h *mcpHTTP) request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	b, err := encode(params)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.next++
	id := strconv.Itoa(h.next)
	h.mu.Unlock()
	res, err := h.post(ctx, rpc{JSONRPC: "2.0", ID: json.RawMessage(id), Method: method, Params: b})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind == "text/event-stream" {
		return answerIn(bufio.NewReader(io.LimitReader(res.Body, 4*maxMCPMessage)), id)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxMCPMessage+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxMCPMessage {
		return nil, fmt.Errorf("a message has more than %d bytes", maxMCPMessage)
	}
	return answerOf(body, id)
}

// answerIn reads events up to the one that answers id (WHATWG HTML, section 9.2).
func answerIn(r *bufio.Reader, id string) (json.RawMessage, error) {
	var data []byte
	for range maxEvents {
		line, err := readLine(r, maxMCPMessage)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errMCPGone
			}
			return nil, err
		}
		if text, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if data = append(data, bytes.TrimPrefix(text, []byte(" "))...); len(data) > maxMCPMessage {
				return nil, fmt.Errorf("a message has more than %d bytes", maxMCPMessage)
			}
			continue
		}
		if len(line) > 0 || len(data) == 0 {
			continue
		}
		out, err := answerOf(data, id)
		if !errors.Is(err, errOtherMessage) {
			return out, err
		}
		data = data[:0]
	}
	return nil, errors.New("too many events before the answer")
}

var errOtherMessage = errors.New("not the answer that was waited for")

func answerOf(text []byte, id string) (json.RawMessage, error) {
	var m rpc
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	switch {
	case m.Method != "" || string(m.ID) != id:
		return nil, errOtherMessage
	case m.Error != nil:
		return nil, m.Error
	}
	return m.Result, nil
}

// Close tells the server that the session is over.
func (h *mcpHTTP) Close() error {
	h.mu.Lock()
	session := h.session
	h.session = ""
	h.mu.Unlock()
	if session != "" {
		ctx, cancel := context.WithTimeout(context.Background(), mcpLeave)
		defer cancel()
		if req, err := http.NewRequestWithContext(ctx, http.MethodDelete, h.url, nil); err == nil {
			req.Header.Set("Mcp-Session-Id", session)
			for k, v := range h.headers {
				req.Header.Set(k, v)
			}
			if res, err := h.client.Do(req); err == nil {
				res.Body.Close()
			}
		}
	}
	h.client.CloseIdleConnections()
	return nil
}
