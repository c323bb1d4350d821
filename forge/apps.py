from django.apps import AppConfig


class ForgeConfig(AppConfig):
    name = "forge"
