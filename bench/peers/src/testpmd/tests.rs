use std::net::UdpSocket;

use ringwire_lab::Lab;

use super::*;

#[test]
fn only_a_file_in_the_path_counts_as_installed() {
    let folder = env::temp_dir().join(format!("ringwire-testpmd-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    assert_eq!(installed(folder.as_os_str()), None);
    std::fs::write(folder.join(PROGRAM), "").unwrap();
    let path = env::join_paths([env::temp_dir().join("nowhere"), folder.clone()]).unwrap();
    assert_eq!(installed(&path), Some(folder.join(PROGRAM)));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn where_installed_it_reflects_and_lets_go_of_the_interface() {
    let lab = Lab::new().unwrap();
    let (client, server) = (lab.node("client").unwrap(), lab.node("server").unwrap());
    let link = lab.link(&client, &server).direct().up().unwrap();
    let interface = link.name(&server).to_owned();
    let config = TestpmdConfig { interface: interface.clone(), queue_id: 0, forward_cpu: 0, main_cpu: 0 };
    let running = match server.run(|| Testpmd::start(&config, Duration::from_secs(20))) {
        Ok(running) => running,
        Err(TestpmdError::NotInstalled) => return,
        Err(error) => panic!("{error}"),
    };
    let mac = link.mac(&server).map(|byte| format!("{byte:02x}")).join(":");
    let address = link.addr(&server);
    let neighbour = [
        "neigh",
        "replace",
        &address.to_string(),
        "lladdr",
        &mac,
        "dev",
        link.name(&client),
        "nud",
        "permanent",
    ];
    assert!(client.command("ip").args(neighbour).status().unwrap().success());
    let socket = client.run(|| UdpSocket::bind((link.addr(&client), 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = [0; 64];
    let started = Instant::now();
    while socket.send_to(b"swap", (address, 9000)).is_err() || socket.recv(&mut buffer).ok() != Some(4) {
        assert!(started.elapsed() < Duration::from_secs(10), "testpmd does not answer");
    }
    drop(running);
    assert!(!server.run(|| is_attached(&interface)));
}
