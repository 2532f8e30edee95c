//! The program `nemordp-control-plane`: reads its configuration and either serves or does one thing.

fn main() -> std::process::ExitCode {
    nemordp_control_plane::program::run()
}
