//! The README's first pipeline with a real distribution, its package manager and a compiler.

use testkit::{Registry, World, needs};

#[test]
fn a_program_is_built_with_packages_from_the_distributions_mirror() {
    needs!(Full, Root, Overlay, Program("debootstrap"), Program("docker-registry"));
    let mut world = World::new();
    let registry = Registry::start();
    world.set("REGISTRY", &registry.address());
    std::fs::create_dir(world.path("src")).expect("a folder");
    let makefile = "install:\n\tcc -o /usr/local/bin/app app.c\n";
    std::fs::write(world.path("src/Makefile"), makefile).expect("a file");
    let program = "#include <stdio.h>\nint main(void) { puts(\"the app\"); }\n";
    std::fs::write(world.path("src/app.c"), program).expect("a file");
    let make = ". /etc/os-release; debootstrap --variant=minbase \"$VERSION_CODENAME\" root >log 2>&1 || { cat log >&2; exit 1; }
        oci-commit --rootfs root --cmd bash --tag $REGISTRY/debian:local | oci-push";
    world.bash(make).ok();
    // the host's own way to its packages comes along
    let build = "oci-pull $REGISTRY/debian:local | oci-unpack | oci-mount --rm --net host \
        | oci-cp /etc/apt :/etc | oci-cp ./src :/src \
        | oci-spawn --pass -- sh -ec 'apt-get update; apt-get install -y --no-install-recommends gcc libc6-dev make' \
        | oci-spawn --pass -w /src -- make install \
        | oci-commit --layer --tag app:1 | oci-push $REGISTRY/app:1";
    for _ in 0..2 {
        world.sh(build).ok();
        world.assert_nothing_left();
    }
    let run = "oci-pull $REGISTRY/app:1 | oci-unpack | oci-mount --rm | oci-spawn -- app";
    assert_eq!(world.sh(run).ok().text(), "the app\n");
    world.assert_store_is_sound();
}
