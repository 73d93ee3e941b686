package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"enclave/wire"
	"enclave/wire/api"
)

// problem is an error answer on its way out. It implements huma's StatusError and
// ContentTypeFilter, so that a handler can return it as its error.
type problem struct{ api.Problem }

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *problem) ContentType(string) string { return "application/problem+json" }

func (p *problem) Error() string { return p.Problem.Error() }

// NewProblem makes an error answer. Type is the code as a URN, so that it is stable
// and needs no web page to exist.
func NewProblem(status int, code, detail, hint string) *api.Problem {
	return &api.Problem{
		Type: "urn:enclave:problem:" + code, Title: http.StatusText(status), Status: status,
		Code: code, Detail: detail, Hint: hint,
	}
}

// WriteProblem answers with p.
func WriteProblem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone if this fails
}

func fail(status int, code, detail, hint string) error {
	return &problem{*NewProblem(status, code, detail, hint)}
}

// invalid answers a document with mistakes: all of them, each with its path.
func invalid(problems ...wire.Problem) error {
	p := &problem{*NewProblem(http.StatusUnprocessableEntity, api.CodeInvalid, "the document has mistakes", "")}
	p.Problems = problems
	if len(problems) == 1 {
		p.Detail = problems[0].Error()
	}
	return p
}

// codeFor gives statuses that come from elsewhere (huma, the mux) their code.
func codeFor(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return api.CodeUnauthorised
	case http.StatusForbidden:
		return api.CodeForbidden
	case http.StatusNotFound:
		return api.CodeNotFound
	case http.StatusConflict:
		return api.CodeConflict
	case http.StatusPreconditionFailed:
		return api.CodeStale
	case http.StatusRequestEntityTooLarge:
		return api.CodeTooLarge
	case http.StatusUnprocessableEntity:
		return api.CodeInvalid
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusRequestTimeout:
		return api.CodeTryAgain
	}
	if status >= 500 {
		return api.CodeInternal
	}
	return api.CodeBadRequest
}

// asProblem finds the wire.Problem in an error of wire.CheckJSON.
func asProblem(err error) wire.Problem {
	var p wire.Problem
	if errors.As(err, &p) {
		return p
	}
	return wire.Problem{Message: err.Error()}
}
