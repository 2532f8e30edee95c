# The customer's account: locked until a password is set, sudo with that password.
useradd --create-home --shell /bin/bash --groups sudo --password '!' user
usermod --lock root
