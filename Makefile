# Shortcuts; `go run . demo` and `go test ./...` need none of them.
.PHONY: all fmt vet lint test race long fuzz demo build bench pgo

all: fmt vet test

fmt:
	gofmt -w $$(git ls-files '*.go')

vet:
	go vet ./...

lint: vet
	go tool staticcheck ./...

test:
	go test ./...

race:
	CGO_ENABLED=1 go test -race -short -gcflags=modernc.org/libc/...=-race=false \
		-gcflags=modernc.org/sqlite/lib=-race=false -gcflags=golang.org/x/crypto/scrypt=-race=false ./...

# What takes too long for every change: 100 kills of the real process under load, and paths
# over ten internets that nobody has seen before (each run prints its seed).
long:
	ENCLAVE_KILLS=100 go test ./e2e -count=1 -timeout 30m -v -run 'TestKilledUnderLoad'
	env -u PATHS_SEED go test ./e2e/paths -count=10 -timeout 60m

# 30 s for each parser.
fuzz:
	@for d in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$d/*_test.go | sed 's/^func //'); do \
	    go test $$d -run '^$$' -fuzz "^$$f\$$" -fuzztime 30s || exit 1; \
	  done; done

demo:
	go run . demo --plain

build:
	CGO_ENABLED=0 go build -trimpath -pgo=$(PROFILE) -o enclave .

# What the compiler is told of the data path; decision 0037. Take it on a quiet machine.
PROFILE = docs/bench/product.pgo

pgo:
	CGO_ENABLED=0 go test ./e2e/bench -run '^$$' -bench 'Goodput/ours/streams=(1|4)$$|Relayed' -benchtime 4x \
	  -cpuprofile profile.prof -o profile.test
	mv profile.prof $(PROFILE)
	rm -f profile.test

bench:
	go run . bench
