CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

target := $(or $(CARGO_TARGET_DIR),target)
# As loader/build.rs has them; only what lints the probes on their own needs them here.
host = $$(rustc --version --verbose | sed -n 's/^host: //p')
kernel_source = $${KERNEL_SOURCE:-$$(dirname "$$(ls -d /lib/modules/*/source | sort -V | tail -n 1)")}

.PHONY: help setup build release test demo bench fmt clippy doc clean install
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; \
		do printf '  make %-9s %s\n' "$$name" "$$text"; done

setup: ## install the Debian packages that are missing (as root)
	@scripts/setup

build: ## debug build, in target/debug
	@scripts/setup build
	$(CARGO) build --workspace

release: ## optimised build, in target/release
	@scripts/setup build
	$(CARGO) build --workspace --release

# Tests that need root are `#[ignore]`d, so that without root they are reported as ignored and not as passed.
test: setup ## all tests; as root those that need the kernel too, else they are reported as ignored
	$(CARGO) test --workspace -- $$(test "$$(id -u)" != 0 || echo --include-ignored)

demo: setup ## xdpd at work, in a few seconds, on a real interface, in a namespace of its own (as root)
	@scripts/demo

bench: setup ## speed and size beside xdp-loader and iproute2 (as root)
	@scripts/bench

fmt: ## format the sources
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path probes/Cargo.toml

clippy: ## lint, warnings denied
	@scripts/setup build
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	cd probes && KERNEL_SOURCE=$(kernel_source) $(CARGO) clippy --locked --release --target $(host) \
		--target-dir $(abspath $(target))/bpf/build -- -D warnings

doc: ## API documentation, warnings denied
	@scripts/setup build
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

clean: ## remove all that was built
	$(CARGO) clean

install: ## install what `make release` built, man pages and completions, to $(DESTDIR)$(PREFIX)
	@test -x $(target)/release/xdpd && test -x $(target)/release/xdp-stats || \
		{ echo 'install: run `make release` first' >&2; exit 1; }
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(target)/release/xdpd $(target)/release/xdp-stats
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(target)/release/xdpd man > $(DESTDIR)$(PREFIX)/share/man/man1/xdpd.1
	install -m 644 stats/xdp-stats.1 $(DESTDIR)$(PREFIX)/share/man/man1
	$(target)/release/xdpd completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/xdpd
	$(target)/release/xdpd completions zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_xdpd
	$(target)/release/xdpd completions fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/xdpd.fish
